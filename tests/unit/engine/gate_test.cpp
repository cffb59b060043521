// The gate: what it measures, what it stores, whom it refuses.
#include "runtime/engine/gate.hpp"

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <thread>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/fixture.hpp"
#include "tests/unit/kv/weak_hashes.hpp"

namespace tessera::test {
namespace {

const std::string kAnchor = "<|im_start|>the anchor";

constexpr uint32_t kChunk = 20;  // tokens

// Three texts of two, four and one pieces of kChunk tokens.
const std::vector<std::string>& owned_texts() {
  static const std::vector<std::string> texts = {digits(45, 1), digits(80, 2), digits(13, 3)};
  return texts;
}
std::vector<std::string_view> texts() {
  return {owned_texts().begin(), owned_texts().end()};
}

tsr::GateOptions gate_options(const tsr::SessionOptions* setting = nullptr) {
  tsr::GateOptions options;
  options.session = setting;
  options.chunk_tokens = kChunk;
  options.chunks = 3;
  options.max_prompts = 3;
  options.answer_tokens = 6;
  return options;
}

void expect_same(const tsr::GateResult& a, const tsr::GateResult& b) {
  EXPECT_EQ(a.repair, b.repair);
  EXPECT_EQ(a.head_tokens, b.head_tokens);
  EXPECT_EQ(a.select_share, b.select_share);
  EXPECT_EQ(a.select_layers, b.select_layers);
  EXPECT_EQ(a.kl_mean, b.kl_mean);
  EXPECT_EQ(a.kl_first, b.kl_first);
  EXPECT_EQ(a.kl_p90, b.kl_p90);
  EXPECT_EQ(a.top1, b.top1);
  EXPECT_EQ(a.recomputed, b.recomputed);
  EXPECT_EQ(a.prompts, b.prompts);
  EXPECT_EQ(a.tokens, b.tokens);
}

class GateTest : public EngineTest {
 protected:
  static tsr::ContextOptions options(uint64_t pages = 512) {
    tsr::ContextOptions options = small(pages);
    options.kv_type = TSR_KV_F32;
    options.set_anchor(kAnchor);
    return options;
  }
  tsr::Context exact(uint64_t pages = 512) { return context(options(pages)); }
};
TESSERA_ON_EACH_DEVICE(GateTest);

TEST_P(GateTest, FullPrefillIsFullPrefill) {
  const tsr::Context context = exact();
  const tsr::SessionOptions full = repair(TSR_REPAIR_FULL);
  const tsr::GateResult r = context.gate(texts(), gate_options(&full));
  EXPECT_EQ(r.repair, TSR_REPAIR_FULL);
  EXPECT_EQ(r.kl_mean, 0);
  EXPECT_EQ(r.kl_first, 0);
  EXPECT_EQ(r.kl_p90, 0);
  EXPECT_EQ(r.top1, 1);
  EXPECT_EQ(r.recomputed, 1);
  EXPECT_EQ(r.prompts, 3u);
  EXPECT_GE(r.tokens, 3u);
  EXPECT_LE(r.tokens, 18u);
  expect_only_caches(context);
}

TEST_P(GateTest, CountsWhatASettingRepairs) {
  const tsr::Context context = exact();
  tsr::SessionOptions none = repair(TSR_REPAIR_NONE), heads = repair(TSR_REPAIR_HEAD),
                      all = repair(TSR_REPAIR_SELECT);
  heads.head_tokens = 5;
  all.select_share = 1;
  tsr::GateOptions options = gate_options(&none);
  options.max_prompts = 2;  // seven pieces: the first two groups of three
  const tsr::GateResult lossy = context.gate(texts(), options);
  EXPECT_GT(lossy.kl_mean, 1e-4f);
  EXPECT_GT(lossy.kl_first, 1e-4f);
  EXPECT_GE(lossy.kl_p90, 0);
  EXPECT_EQ(lossy.recomputed, 0);
  EXPECT_EQ(lossy.prompts, 2u);
  // 13 + 5 * 20 tokens of chunks in two prompts; the first chunk of each is exact.
  options.session = &heads;
  EXPECT_FLOAT_EQ(context.gate(texts(), options).recomputed, 4 * 5 / 113.0f);
  options.session = &all;
  const tsr::GateResult repaired = context.gate(texts(), options);
  EXPECT_FLOAT_EQ(repaired.recomputed, 73 / 113.0f);
  EXPECT_LT(repaired.kl_mean, 1e-6f) << "all that was approximate";
  EXPECT_EQ(repaired.top1, 1);
  EXPECT_EQ(repaired.select_share, 1);
  EXPECT_EQ(repaired.head_tokens, 0u);
  expect_only_caches(context);
}

// The numbers are those of ordinary sessions.
TEST_P(GateTest, MeasuresWhatSessionsAnswer) {
  const tsr::Context context = exact();
  const tsr::SessionOptions none = repair(TSR_REPAIR_NONE), full = repair(TSR_REPAIR_FULL);
  tsr::GateOptions options = gate_options(&none);
  options.max_prompts = options.answer_tokens = 1;
  const std::string_view question = "which of them?";
  const tsr::GateResult r = context.gate(texts(), options, {question});
  const auto ask = [&](const tsr::SessionOptions& setting) {
    tsr::Session session(context, setting);
    session.add_anchor();
    for (const std::string& text : owned_texts()) {
      session.add_chunk(tsr::Chunk(context, std::string_view(text).substr(0, kChunk)));
    }
    session.add_text("\n" + std::string(question));
    session.close_role(TSR_ROLE_USER);
    session.open_role(TSR_ROLE_ASSISTANT);
    return session.evaluate();
  };
  const auto softmax = [](std::vector<float> row) {
    double sum = 0;
    for (float& value : row) sum += value = std::exp(value);
    for (float& value : row) value = static_cast<float>(value / sum);
    return row;
  };
  const std::vector<float> p = softmax(ask(full)), q = softmax(ask(none));
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
  EXPECT_NEAR(r.kl_first, kl, 1e-5 + kl * 1e-3);
  EXPECT_EQ(r.kl_mean, r.kl_first);
  EXPECT_EQ(r.kl_p90, r.kl_first);
  EXPECT_EQ(r.tokens, 1u);
}

TEST_P(GateTest, TheSameTextsGiveTheSameNumbers) {
  const tsr::Context calm = exact();
  const tsr::GateResult first = calm.gate(texts(), gate_options());
  expect_same(calm.gate(texts(), gate_options()), first);
  // Other slices and pages, neighbours, prefix runs that begin alike.
  tsr::ContextOptions other = options();
  other.max_step_tokens = 5;
  const tsr::Context busy = context(other);
  tsr::Session neighbour(busy), alike(busy);
  alike.add_anchor();
  for (const std::string& text : owned_texts()) alike.add_chunk(tsr::Chunk(busy, text));
  alike.evaluate();
  neighbour.add_text(digits(30, 9));
  neighbour.generate(greedy(200));
  expect_same(busy.gate(texts(), gate_options()), first);
  EXPECT_EQ(read(neighbour).tokens, 200u);
}

TEST_P(GateTest, ResultsAreFoundBySetting) {
  const tsr::Context context = exact();
  tsr::SessionOptions setting = repair(TSR_REPAIR_HEAD);
  setting.head_tokens = 5;
  EXPECT_FALSE(context.gate_result(setting));
  const tsr::GateResult measured = context.gate(texts(), gate_options(&setting));
  const auto found = context.gate_result(setting);
  ASSERT_TRUE(found);
  expect_same(*found, measured);
  // What the mode does not use changes nothing, nor does what is not of the dial.
  setting.select_share = 0.5f;
  setting.select_layers = 0.5f;
  setting.event_capacity = 3;
  setting.max_kl = 7;
  EXPECT_TRUE(context.gate_result(setting));
  setting.head_tokens = 6;
  EXPECT_FALSE(context.gate_result(setting));
  setting.head_tokens = 5;
  setting.repair = TSR_REPAIR_HEAD_SELECT;
  EXPECT_FALSE(context.gate_result(setting));
  // NULL and DEFAULT are what this release recommends.
  const tsr::GateResult standard = context.gate(texts(), gate_options());
  EXPECT_EQ(standard.repair, TSR_REPAIR_HEAD_SELECT);
  EXPECT_EQ(standard.head_tokens, 16u);
  EXPECT_TRUE(context.gate_result(repair(TSR_REPAIR_HEAD_SELECT)));
  EXPECT_TRUE(context.gate_result());
}

TEST_P(GateTest, AnApplicationRefusesWhatIsTooLossy) {
  const tsr::Context context = exact();
  tsr::SessionOptions setting = repair(TSR_REPAIR_NONE);
  setting.max_kl = 1e-5f;
  std::string message;
  const auto open = [&] { tsr::Session(context, setting); };
  EXPECT_EQ(status_of(open, &message), TSR_NOT_FOUND);
  EXPECT_NE(message.find("max_kl"), std::string::npos) << message;
  const tsr::GateResult r = context.gate(texts(), gate_options(&setting));
  EXPECT_EQ(status_of(open, &message), TSR_UNSUPPORTED);
  EXPECT_NE(message.find("max_kl"), std::string::npos) << message;
  setting.max_kl = r.kl_mean;
  EXPECT_EQ(status_of(open), TSR_OK) << "as much as it measured";
  setting.max_kl = 0;
  EXPECT_EQ(status_of(open), TSR_OK);
  setting.repair = TSR_REPAIR_FULL;
  setting.max_kl = 1e-9f;
  EXPECT_EQ(status_of(open), TSR_OK) << "nothing can be lost";
  expect_only_caches(context);
}

// ---- what outlives a context

class GateFolder : public GateTest {
 protected:
  tsr::ContextOptions with_folder(tsr::ContextOptions options) const {
    options.set_cache_folder(path_);
    return options;
  }
  tsr::Context stored(const tsr::ContextOptions& o) { return context(with_folder(o)); }
  static tsr::Model other_model() {
    TempFolder models;
    TinyModel tiny;
    tiny.context = 8192;
    tiny.seed = 2;
    write_tiny_model(models.file("other.gguf"), tiny);
    return load_model("cpu", models.file("other.gguf"));
  }
  size_t files() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      count += entry.path().extension() == ".gate";
    }
    return count;
  }

  TempFolder folder_;
  const std::string path_ = folder_.path().string();
};
INSTANTIATE_TEST_SUITE_P(Devices, GateFolder, testing::Values("cpu"));

TEST_P(GateFolder, ANewContextFindsWhatItsLikeMeasured) {
  const tsr::GateResult measured = stored(options()).gate(texts(), gate_options());
  EXPECT_EQ(files(), 1u);
  const auto found = stored(options()).gate_result();
  ASSERT_TRUE(found);
  expect_same(*found, measured);
  EXPECT_FALSE(context(options()).gate_result()) << "without the folder";
  // Threads and budget change nothing of it; page size, KV type, anchor and primer do.
  tsr::ContextOptions other = options(256);
  other.threads = 2;
  EXPECT_TRUE(stored(other).gate_result());
  other = options();
  other.page_size = 16;
  EXPECT_FALSE(stored(other).gate_result());
  other = options();
  other.kv_type = TSR_KV_F16;
  EXPECT_FALSE(stored(other).gate_result());
  other = options();
  other.set_anchor("<|im_start|>another anchor");
  EXPECT_FALSE(stored(other).gate_result());
  other = options();
  const std::string primer = digits(30, 8);
  other.flags = 0;
  other.set_primer(primer);
  EXPECT_FALSE(stored(other).gate_result());
  stored(other).gate(texts(), gate_options());
  EXPECT_TRUE(stored(other).gate_result());
  EXPECT_EQ(files(), 2u);
  EXPECT_TRUE(stored(options()).gate_result());
}

TEST_P(GateFolder, AnotherModelOrMathFindsNothing) {
  stored(options()).gate(texts(), gate_options());
  const tsr::Model other = other_model();
  tsr::ModelOptions reference;
  reference.math = TSR_MATH_REFERENCE;
  const tsr::Model slow(tsr::Runtime(), model_path(), reference);
  for (const tsr::Model* model : {&other, &slow}) {
    const tsr::Context context(*model, with_folder(options()));
    EXPECT_FALSE(context.gate_result());
  }
}

// What was measured is found by more than the identity of what chunks stand behind.
TEST_P(GateFolder, IsAnothersWhereIdentitiesCollide) {
  const kv::test::WeakHashes weak;
  stored(options()).gate(texts(), gate_options());
  EXPECT_TRUE(stored(options()).gate_result());
  tsr::ContextOptions other = options();
  other.set_anchor("<|im_start|>another anchor");
  EXPECT_FALSE(stored(other).gate_result());
  other = options();
  const std::string primer = digits(30, 8);
  other.flags = 0;
  other.set_primer(primer);
  EXPECT_FALSE(stored(other).gate_result());
  EXPECT_FALSE(tsr::Context(other_model(), with_folder(options())).gate_result());
}

TEST_P(GateFolder, WithoutItsFolderAResultIsKeptInMemory) {
  const tsr::Context context = stored(options());
  std::filesystem::remove_all(path_);
  const tsr::GateResult measured = context.gate(texts(), gate_options());
  const auto found = context.gate_result();
  ASSERT_TRUE(found);
  expect_same(*found, measured);
}

// The store alone.
class GateStoreTest : public testing::Test {
 protected:
  static engine::GateKey key(uint64_t low = 1) {
    engine::GateKey key;
    key.base = {low, 2};
    key.repair = engine::Repair::head;
    key.head_tokens = 16;
    return key;
  }
  static engine::GateResult result() { return {0.5f, 0.25f, 0.75f, 0.875f, 0.125f, 8, 192}; }
  std::string path(const engine::GateKey& k = key()) { return folder_.file(k.file_name()); }
  // What a new process finds.
  std::optional<engine::GateResult> find(const engine::GateKey& k = key()) {
    engine::GateStore store;
    store.set_folder(&files_);
    return store.find(k);
  }
  std::string put(const engine::GateKey& k = key()) {
    engine::GateStore store;
    store.set_folder(&files_);
    EXPECT_EQ(store.put(k, result()), "");
    std::ifstream file(path(k), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& bytes) { std::ofstream(path(), std::ios::binary) << bytes; }

  TempFolder folder_;
  const kv::SharedFolder files_{folder_.path().string()};
};

TEST_F(GateStoreTest, KeepsAFileForItsOwnerAlone) {
  const std::string bytes = put();
  EXPECT_EQ(bytes.size(), 88u);
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(path()).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "nothing beside it";
  const auto found = find();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kl_p90, 0.75f);
  EXPECT_EQ(found->recomputed, 0.125f);
  EXPECT_EQ(found->tokens, 192u);
  EXPECT_FALSE(find(key(3)));
}

TEST_F(GateStoreTest, ADamagedFileIsDroppedNotBelieved) {
  const std::string whole = put();
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    write(bytes);
    EXPECT_FALSE(find()) << "bit " << bit;
    EXPECT_FALSE(std::filesystem::exists(path())) << "bit " << bit;
  }
  for (size_t length = 0; length < whole.size(); ++length) {
    write(whole.substr(0, length));
    EXPECT_FALSE(find()) << length << " bytes";
  }
  write(whole + "x");
  EXPECT_FALSE(find());
  write(put(key(3)));  // another setting's under this one's name
  EXPECT_FALSE(find());
  EXPECT_TRUE(find(key(3)));
  write(whole);
  EXPECT_TRUE(find());
}

TEST_F(GateStoreTest, WhatIsNoFileIsLeftAlone) {
  std::filesystem::create_directory(path());
  EXPECT_FALSE(find());
  EXPECT_TRUE(std::filesystem::exists(path()));
  engine::GateStore store;
  store.set_folder(&files_);
  EXPECT_NE(store.put(key(), result()), "");
  EXPECT_TRUE(store.find(key())) << "in memory";
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(GateStoreTest, AFileBeyondTheProcessLimitIsNotBegun) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit = {50, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  engine::GateStore store;
  store.set_folder(&files_);
  const std::string why = store.put(key(), result());
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(why.find(key().file_name()), std::string::npos) << why;
  EXPECT_TRUE(store.find(key())) << "in memory";
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

// ---- refusals and endings

TEST_P(GateTest, RefusesWhatItCannotMeasure) {
  const tsr::Context context = exact();
  const auto refuse = [&](const std::vector<std::string_view>& given, const tsr::GateOptions& o,
                          tsr_status status, const std::string& named) {
    std::string message;
    EXPECT_EQ(status_of([&] { context.gate(given, o); }, &message), status) << named;
    EXPECT_NE(message.find(named), std::string::npos) << message;
  };
  refuse({}, gate_options(), TSR_INVALID_ARGUMENT, "text_count");
  refuse({"one"}, gate_options(), TSR_INVALID_ARGUMENT, "text_count");
  refuse({"one", ""}, gate_options(), TSR_INVALID_ARGUMENT, "texts[1]");
  refuse({"one", "\xff"}, gate_options(), TSR_INVALID_ARGUMENT, "texts[1]");
  tsr::GateOptions o = gate_options();
  o.chunks = 8;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "chunks is 8; the texts give 7");
  o = gate_options();
  o.text_count = UINT64_MAX;
  refuse({}, o, TSR_INVALID_ARGUMENT, "text_count");
  o.text_count = 2;
  refuse({}, o, TSR_INVALID_ARGUMENT, "options->texts");
  o = gate_options();
  o.question_count = 1;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "options->questions");
  o = gate_options();
  o.max_prompts = UINT32_MAX;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "max_prompts");
  o = gate_options();
  o.reserved = 1;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "reserved");
  o = gate_options();
  o.answer_tokens = 9000;
  refuse(texts(), o, TSR_CAPACITY, "chunk_tokens");
  o.answer_tokens = UINT32_MAX;
  refuse(texts(), o, TSR_CAPACITY, "chunk_tokens");
  tsr::SessionOptions setting = repair(9);
  o = gate_options(&setting);
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "options->session: options->repair");
  setting = repair(TSR_REPAIR_NONE);
  setting.max_kl = -1;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "max_kl");
  setting.max_kl = std::numeric_limits<float>::quiet_NaN();
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "max_kl");
  setting.max_kl = 0;
  setting.struct_size = 8;
  refuse(texts(), o, TSR_INVALID_ARGUMENT, "options->session->struct_size");
  EXPECT_FALSE(context.gate_result());
  expect_only_caches(context);
}

// Whatever fits or not: a status, and nothing is left.
TEST_P(GateTest, RespectsTheBudget) {
  int refused = 0, measured = 0;
  for (uint64_t pages = 8; pages < 120; pages += 8) {
    const tsr::Context context = exact(pages);
    const tsr_status status = status_of([&] { context.gate(texts(), gate_options()); });
    EXPECT_TRUE(status == TSR_OK || status == TSR_CAPACITY) << tsr_status_name(status);
    ++(status == TSR_OK ? measured : refused);
    EXPECT_EQ(context.gate_result().has_value(), status == TSR_OK);
    expect_only_caches(context);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(measured, 0);
}

// A session of the same context holds what the gate would need, and is not disturbed.
TEST_P(GateTest, LeavesOthersTheirPages) {
  const tsr::Context context = exact(80);  // 40 of F32
  tsr::Session other(context);
  other.add_text(digits(150, 4));
  other.generate(greedy(100));
  EXPECT_EQ(status_of([&] { context.gate(texts(), gate_options()); }), TSR_CAPACITY);
  EXPECT_EQ(read(other).tokens, 100u);
  expect_idle(context);
}

TEST_P(GateTest, EndsWithItsContext) {
  int cancelled = 0;
  for (int delay = 0; delay < 12; ++delay) {
    tsr::Context context = exact();
    const tsr_context handle = context.get();
    tsr::GateOptions o = gate_options();
    o.max_prompts = 16;
    o.answer_tokens = 200;
    tsr_status status = TSR_OK;
    std::string message;
    tsr::Session survivor(context);  // keeps the context alive, its handle not
    std::thread measuring([&] {
      std::vector<tsr_text> views;
      for (const std::string& text : owned_texts()) views.push_back({text.data(), text.size()});
      o.texts = views.data();
      o.text_count = views.size();
      tsr::GateResult result;
      status = tsr_context_gate(handle, &o, &result);
      message = tsr_last_error();
    });
    engine::ContextProbe probe(handle);
    if (delay > 0) {
      while (probe.tokens_of_sessions().size() < 2) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(delay - 1));
    }
    context.reset();
    measuring.join();
    if (status == TSR_CANCELLED) {
      ++cancelled;
      EXPECT_NE(message.find("the context was destroyed"), std::string::npos) << message;
    } else {  // too early: the handle was gone; or too late
      EXPECT_TRUE(status == TSR_OK || status == TSR_INVALID_ARGUMENT) << message;
    }
    // Nothing of it is left in the engine, which goes on for its other sessions.
    EXPECT_EQ(probe.tokens_of_sessions().size(), 1u);
    survivor.add_text("on");
    EXPECT_EQ(generate(survivor, greedy(3)).size(), 3u);
    EXPECT_EQ(probe.check(), "");
  }
  EXPECT_GT(cancelled, 2);
}

// Gates on several threads, of the same and of other settings, beside a session.
TEST_P(GateTest, SeveralAtOnce) {
  const tsr::Context context = exact();
  const tsr::SessionOptions none = repair(TSR_REPAIR_NONE);
  const tsr::GateResult alone = context.gate(texts(), gate_options(&none));
  std::vector<tsr::GateResult> results(3);
  std::vector<std::thread> threads;
  for (tsr::GateResult& result : results) {
    threads.emplace_back([&] { result = context.gate(texts(), gate_options(&none)); });
  }
  tsr::Session session(context);
  session.add_text(digits(40, 6));
  EXPECT_EQ(context.wait(0), nullptr) << "events of a gate are nobody's";
  EXPECT_EQ(generate(session, greedy(20)).size(), 20u);
  for (std::thread& thread : threads) thread.join();
  for (const tsr::GateResult& result : results) expect_same(result, alone);
  session.reset();
  expect_only_caches(context);
}

}  // namespace
}  // namespace tessera::test
