// Texts of one identity, in files and in saved sessions: a hash only finds, and no answer is
// another text's.
#include <atomic>
#include <map>
#include <optional>
#include <thread>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/disk_fixture.hpp"
#include "tests/unit/kv/weak_hashes.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using kv::test::WeakHashes;

constexpr uint64_t kTokens = 20;  // of every text: their files would have one name
constexpr uint64_t kOther = 13;   // of one that has a name of its own

std::string text(uint64_t which) {
  return digits(kTokens, which);
}

tsr::Chunk lazy_chunk(const tsr::Context& context, const std::string& text) {
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  return tsr::Chunk(context, text, lazy);
}

// Logits behind the anchor and these texts.
std::vector<float> ask(const tsr::Context& context, const std::vector<std::string>& texts) {
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  session.add_anchor();
  for (const std::string& text : texts) session.add_chunk(lazy_chunk(context, text));
  session.add_text("?");
  return session.evaluate();
}

class Collisions : public DiskFixture {
 protected:
  // What is asked is answered as without a folder, by hashes that do not collide.
  void know(const std::vector<std::vector<std::string>>& prompts) {
    const tsr::Context context = this->context(with(""));
    for (const auto& texts : prompts) {
      const std::vector<float> logits = ask(context, texts);
      for (const auto& [others, known] : known_) EXPECT_NE(known, logits);
      known_[texts] = logits;
    }
  }
  void expect_known(const tsr::Context& context, const std::vector<std::string>& texts) {
    EXPECT_EQ(ask(context, texts), known_.at(texts));
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  }

  std::map<std::vector<std::string>, std::vector<float>> known_;
};
TESSERA_ON_EACH_DEVICE(Collisions);

TEST_P(Collisions, AFileIsTheFirstTexts) {
  const std::string a = text(1), b = text(2), other = digits(kOther, 1);
  know({{a}, {b}, {a, b}, {b, a, b}, {other}});
  const WeakHashes weak;
  {
    const tsr::Context context = warmable();
    expect_known(context, {a});
    wait_stored(context, 3);  // and what it stands behind
  }
  ASSERT_EQ(files(path_, "chunk-").size(), 1u);
  const fs::path file = files(path_, "chunk-")[0];
  const std::vector<char> bytes = bytes_of(file);
  {
    const tsr::Context context = warmable();
    expect_known(context, {b});
    EXPECT_EQ(context.metrics().load_failures, 1u);
    expect_known(context, {other});
    wait_stored(context, 1);  // after b's turn
    EXPECT_EQ(context.metrics().chunks_stored, 1u);
    expect_only_caches(context);
  }
  EXPECT_EQ(files(path_, "chunk-").size(), 2u);
  EXPECT_EQ(bytes_of(file), bytes);
  {
    const tsr::Context context = warmable();
    expect_known(context, {b, a, b});
    EXPECT_EQ(context.metrics().load_failures, 1u);
    EXPECT_EQ(context.metrics().chunks_loaded, 3u) << "anchor, primer and a";
    for (const auto& [texts, known] : known_) expect_known(context, texts);
    expect_only_caches(context);
  }
  EXPECT_EQ(bytes_of(file), bytes);
}

// Names pass from text to text while contexts read and write them.
TEST_P(Collisions, ContextsShareTheNames) {
  constexpr uint64_t kTexts = 6;
  std::vector<std::vector<std::string>> prompts;
  for (uint64_t i = 0; i < kTexts; ++i) {
    prompts.push_back({text(i)});
    prompts.push_back({text(i), text((i + 1) % kTexts)});
  }
  know(prompts);
  for (const uint64_t mask : {0, 1}) {
    const WeakHashes weak(mask);
    std::atomic<uint64_t> loaded{0}, refused{0};
    const auto work = [&](uint64_t seed) {
      Random random(seed);
      std::optional<tsr::Context> context;
      for (int i = 0; i < 60 && !HasFailure(); ++i) {
        if (i % 12 == 0) context.emplace(warmable("", 14));
        expect_known(*context, prompts[random.below(prompts.size())]);
        if (random.one_in(10)) {
          std::error_code ignored;
          for (const auto& entry : fs::directory_iterator(path_, ignored)) {
            fs::remove(entry.path(), ignored);
          }
        }
        if (i % 12 < 11) continue;
        expect_only_caches(*context);
        loaded += context->metrics().chunks_loaded;
        refused += context->metrics().load_failures;
      }
    };
    std::thread one(work, 1), other(work, 2);
    one.join();
    other.join();
    EXPECT_GT(loaded, 0u);
    EXPECT_GT(refused, 0u);
    fs::remove_all(path_);
  }
}

// The same text under another setting is another's file of our name.
TEST_P(Collisions, SettingsShareTheNames) {
  std::vector<tsr::ContextOptions> settings(4, with(path_));
  settings[1].set_anchor("<|im_start|>ANCHOR");
  settings[2].set_primer("some other text");
  settings[3].kv_type = TSR_KV_F32;
  settings[3].kv_budget *= 2;
  std::vector<std::vector<float>> wanted;
  for (tsr::ContextOptions plain : settings) {
    plain.cache_folder = nullptr;
    plain.cache_folder_length = 0;
    const std::vector<float> logits = ask(context(plain), {text(1)});
    for (const std::vector<float>& others : wanted) EXPECT_NE(others, logits);
    wanted.push_back(logits);
  }
  const WeakHashes weak;
  for (const bool again : {false, true}) {
    for (size_t i = 0; i < settings.size(); ++i) {
      SCOPED_TRACE(std::to_string(i) + (again ? " again" : ""));
      const tsr::Context context = this->context(settings[i]);
      EXPECT_EQ(ask(context, {text(1)}), wanted[i]);
      // Files of another size are replaced, others stay.
      if (i == 0 || i == 3) wait_stored(context, 3);
      expect_only_caches(context);
      EXPECT_EQ(context.metrics().load_failures > 0, again || i > 0);
    }
  }
}

TEST_P(Collisions, ListsOpensAndDrops) {
  const std::string a = text(1), b = text(2), other = digits(kOther, 1);
  know({{a}, {b}, {other}});
  const WeakHashes weak;
  const auto opened = [](const tsr::Context& context) {
    const std::vector<tsr_chunk_id> ids = context.chunks();
    return tsr::Chunk::open(context, ids.at(0));
  };
  {
    const tsr::Context context = warmable();
    expect_known(context, {a});
    wait_stored(context, 3);
  }
  {  // the only one on disk
    const tsr::Context context = warmable();
    const tsr::Chunk chunk = opened(context);
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_anchor();
    session.add_chunk(chunk);
    session.add_text("?");
    EXPECT_EQ(session.evaluate(), known_.at({a}));
    expect_known(context, {b});
    EXPECT_EQ(status_of([&] { opened(context); }), TSR_NOT_FOUND) << "two in memory";
    expect_known(context, {other});
    wait_stored(context, 1);
    EXPECT_EQ(context.chunks().size(), 3u);
  }
  {
    const tsr::Context context = warmable();
    EXPECT_EQ(context.chunks().size(), 2u);
    EXPECT_EQ(status_of([&] { opened(context); }), TSR_NOT_FOUND) << "two on disk";
    const tsr::Chunk chunk(context, b);
    EXPECT_TRUE(chunk.wait());
    chunk.drop(TSR_DROP_DISK);
    for (const auto& [texts, known] : known_) expect_known(context, texts);
    chunk.drop();
    for (const auto& [texts, known] : known_) expect_known(context, texts);
  }
  const tsr::Context context = warmable();
  for (const std::string& text : {a, b, other}) {
    const tsr::Chunk chunk(context, text);
    EXPECT_TRUE(chunk.wait());
    chunk.drop();
    EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
    EXPECT_EQ(chunk.info().disk_bytes, 0u);
  }
  EXPECT_TRUE(files(path_, "chunk-").empty());
  for (const auto& [texts, known] : known_) expect_known(context, texts);
  expect_only_caches(context);
}

// ---- saved sessions

tsr::Session conversation(const tsr::Context& context, tsr_repair mode) {
  tsr::SessionOptions options = repair(mode);
  options.head_tokens = 5;
  options.select_share = 0.3f;
  tsr::Session session(context, options);
  session.add_anchor();
  session.add_chunk(lazy_chunk(context, text(1)));
  session.add_text("or");
  session.add_chunk(lazy_chunk(context, text(2)));
  session.add_chunk(lazy_chunk(context, text(1)));
  session.add_text("which?");
  generate(session, greedy(6));
  return session;
}

struct Talk {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  bool operator==(const Talk&) const = default;
};

// A turn more, with both texts again.
Talk go_on(const tsr::Context& context, tsr::Session& session) {
  session.add_text("and");
  session.add_chunk(lazy_chunk(context, text(2)));
  session.add_chunk(lazy_chunk(context, text(3)));
  session.add_text("?");
  generate(session, drawn(6, 4));
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  return {session.tokens(), session.evaluate()};
}

// What chunks stand behind is told apart by more than its identity.
TEST_P(Collisions, ASessionIsNotRestoredBehindAnotherAnchorOrPrimer) {
  const WeakHashes weak(0);
  const tsr::Context context = this->context(with(""));
  const std::vector<uint8_t> bytes = conversation(context, TSR_REPAIR_HEAD).save();
  const auto refused = [&](const tsr::ContextOptions& options, const std::string& what) {
    const tsr::Context other = this->context(options);
    try {
      tsr::Session::restore(other, bytes);
      ADD_FAILURE() << "restored behind " << what;
    } catch (const tsr::Exception& error) {
      EXPECT_EQ(error.status(), TSR_VERSION_MISMATCH);
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  tsr::ContextOptions anchor = with(""), primer = with("");
  anchor.set_anchor("<|im_start|>ANCHOR");
  refused(anchor, "another anchor");
  primer.set_primer("SOME ordinary text");
  refused(primer, "another primer");
  tsr::Session::restore(context, bytes);
}

TEST_P(Collisions, ARestoredSessionAnswersAsItsOriginal) {
  const std::string others = temp_.file("others");
  {
    const WeakHashes weak;
    const tsr::Context context = warmable(others);
    ask(context, {text(3)});
    wait_stored(context, 3);
  }
  for (const tsr_repair mode : {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_SELECT,
                                TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL}) {
    SCOPED_TRACE(mode);
    fs::remove_all(path_);
    const Talk wanted = [&] {
      const tsr::Context context = this->context(with(""));
      tsr::Session session = conversation(context, mode);
      return go_on(context, session);
    }();
    const WeakHashes weak;
    std::vector<uint8_t> bytes;
    {
      const tsr::Context context = warmable();
      tsr::Session session = conversation(context, mode);
      bytes = session.save();
      tsr::Session restored = tsr::Session::restore(context, bytes);
      EXPECT_EQ(restored.save(), bytes);
      EXPECT_EQ(go_on(context, session), wanted);
      EXPECT_EQ(go_on(context, restored), wanted);
      session.reset();
      restored.reset();
      expect_only_caches(context);
      if (mode != TSR_REPAIR_FULL) wait_stored(context, 3);
    }
    // After a restart, without the folder, and with one where the name is another's.
    for (const std::string& folder : {path_, std::string(), others}) {
      const tsr::Context context = this->context(with(folder));
      tsr::Session session = tsr::Session::restore(context, bytes);
      EXPECT_EQ(session.save(), bytes);
      EXPECT_EQ(go_on(context, session), wanted) << folder;
      session.reset();
      expect_only_caches(context);
    }
  }
}

}  // namespace
}  // namespace tessera::test
