// The disk tier: a restart is warm, and whatever happens to the folder, answers have the bits that
// they have without one.
#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/abi/objects.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/disk_fixture.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

engine::Context& engine_of(const tsr::Context& context) {
  return *abi::find<abi::ContextObject>(context.get())->engine;
}

class Disk : public DiskFixture {};
TESSERA_ON_EACH_DEVICE(Disk);

TEST_P(Disk, ARestartIsWarm) {
  warm();
  EXPECT_EQ(files(path_, "chunk-").size(), kChunks);
  EXPECT_EQ(files(path_, "anchor-").size(), 1u);
  EXPECT_EQ(files(path_, "primer-").size(), 1u);
  const tsr::Context context = warmable();
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  EXPECT_EQ(ask(session, context), wanted());
  const tsr::Metrics m = context.metrics();
  EXPECT_EQ(m.chunks_loaded, kChunks + 1) << "the anchor is in the prompt, the primer is not";
  EXPECT_EQ(m.computed_tokens, 1u) << "the question";
  EXPECT_EQ(m.load_failures + m.store_failures + m.chunks_stored, 0u);
  uint64_t bytes = 0;
  for (const fs::path& file : files(path_)) bytes += fs::file_size(file);
  EXPECT_EQ(m.disk_bytes, bytes);
  EXPECT_GT(session.report().load_us, 0u);
  EXPECT_EQ(session.report().tokens_computed, 1u);
  session.reset();
  expect_only_caches(context);
}

// One step, not one for the text in front while the files are read and one for the question.
TEST_P(Disk, AFewTokensInFrontWaitForTheFiles) {
  warm();
  for (int i = 0; i < 10; ++i) {
    const tsr::Context context = warmable();
    tsr::ChunkOptions lazy;
    lazy.flags = TSR_CHUNK_LAZY;
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_text("in front");
    for (uint64_t c = 0; c < kChunks; ++c) {
      session.add_chunk(tsr::Chunk(context, digits(9 + 13 * c, c), lazy));
    }
    session.add_text("?");
    session.evaluate();
    EXPECT_EQ(context.metrics().chunks_loaded, kChunks);
    EXPECT_EQ(context.metrics().steps, 1u);
  }
}

TEST_P(Disk, FlushWaitsForEveryFile) {
  EXPECT_TRUE(context(with("")).flush(0)) << "without a folder there is nothing to wait for";
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::string folder = temp_.file("flush" + std::to_string(seed));
    const tsr::Context context = warmable(folder);
    EXPECT_TRUE(context.flush(0)) << "nothing was encoded";
    ask(context, seed);
    EXPECT_TRUE(context.flush());
    EXPECT_EQ(files(folder).size(), kChunks + 2);
    EXPECT_TRUE(context.flush(0));
  }
}

TEST_P(Disk, AnswersAsWithoutOne) {
  wanted();
  const tsr::Context cold = warmable();
  tsr::Session session(cold, repair(TSR_REPAIR_NONE));
  EXPECT_EQ(ask(session, cold), wanted());
  EXPECT_EQ(session.report().load_us, 0u);
  wait_stored(cold, kChunks + 2);
  for (const auto mode : {TSR_REPAIR_HEAD, TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL}) {
    const tsr::Context plain = context(with("")), warm = warmable();
    tsr::Session a(plain, repair(mode)), b(warm, repair(mode));
    EXPECT_EQ(ask(a, plain), ask(b, warm)) << mode;
  }
}

// What was given up in memory is read again.
TEST_P(Disk, EvictedChunksComeBack) {
  wanted();
  const tsr::Context context = warmable("", 24);
  EXPECT_EQ(ask(context), wanted());
  wait_stored(context, kChunks + 2);
  for (uint64_t seed = 10; seed < 14; ++seed) ask(context, seed);
  const uint64_t loaded = context.metrics().chunks_loaded;
  EXPECT_EQ(ask(context), wanted());
  EXPECT_GT(context.metrics().chunks_loaded, loaded);
  expect_only_caches(context);
}

TEST_P(Disk, EverySettingHasFilesOfItsOwn) {
  warm();
  const TempFolder models;
  const std::string other_path = models.file("other.gguf");
  TinyModel tiny;
  tiny.context = 8192;
  tiny.seed = 2;
  write_tiny_model(other_path, tiny);
  tiny.seed = 1;
  tiny.rope_base = 20000;
  const std::string rope_path = models.file("rope.gguf");
  write_tiny_model(rope_path, tiny);
  const tsr::Model other = load_model(GetParam(), other_path);
  const tsr::Model rope = load_model(GetParam(), rope_path);
  uint64_t count = files(path_).size();
  const auto stays_apart = [&](const tsr::Model& model, const tsr::ContextOptions& options,
                               uint64_t texts) {
    tsr::ContextOptions plain = options;
    plain.cache_folder = nullptr;
    plain.cache_folder_length = 0;
    const tsr::Context with(model, options), without(model, plain);
    EXPECT_EQ(ask(with), ask(without));
    wait_stored(with, texts);
    EXPECT_EQ(with.metrics().chunks_stored, texts);
    EXPECT_EQ(with.metrics().load_failures, 0u);
    EXPECT_EQ(files(path_).size(), count += texts);
  };
  constexpr uint64_t kAll = kChunks + 2;
  stays_apart(other, with(path_), kAll);
  stays_apart(rope, with(path_), kAll);
  tsr::ContextOptions options = with(path_);
  options.kv_type = TSR_KV_F32;
  options.kv_budget *= 2;
  stays_apart(model(), options, kAll);
  options = with(path_);
  options.page_size = 16;
  stays_apart(model(), options, kAll);
  options = with(path_);
  options.set_anchor("<|im_start|>another");
  stays_apart(model(), options, kAll);
  options = with(path_);
  options.set_primer("another");
  stays_apart(model(), options, kChunks + 1);  // the anchor is the same
  EXPECT_EQ(expect_as_always().chunks_loaded, kChunks + 1);
}

// Admission counts what an encoding takes, whether or not its file will do: a request that begins
// does not fail.
TEST_P(Disk, AdmissionCountsTheEncoding) {
  warm();
  int refused = 0, answered = 0;
  for (uint64_t pages = 8; pages < 40 && !HasFailure(); ++pages) {
    SCOPED_TRACE(std::to_string(pages) + " pages");
    std::string message;
    std::vector<float> row;
    const auto request = [&](const tsr::ContextOptions& options) {
      const tsr::Context context = this->context(options);
      tsr::Session session(context, repair(TSR_REPAIR_NONE));
      row.clear();
      const tsr_status status = status_of([&] { row = ask(session, context); }, &message);
      session.reset();
      expect_only_caches(context);
      return status;
    };
    const tsr_status plain = request(with("", pages));
    EXPECT_EQ(request(with(path_, pages)), plain);
    const std::string copy = temp_.file("copy" + std::to_string(pages));
    fs::copy(path_, copy);
    for (const fs::path& file : files(copy)) fs::resize_file(file, 10);
    EXPECT_EQ(request(with(copy, pages)), plain);
    fs::remove_all(copy);
    (plain == TSR_OK ? answered : refused)++;
    if (plain == TSR_OK) {
      EXPECT_EQ(row, wanted());
    } else {
      EXPECT_EQ(plain, TSR_CAPACITY) << message;
    }
  }
  EXPECT_GT(refused, 3);
  EXPECT_GT(answered, 3);
}

TEST_P(Disk, AChunkIsWaitedForWhileItLoads) {
  warm();
  const tsr::Context context = warmable();
  const tsr::Chunk chunk(context, digits(9, 0));
  EXPECT_TRUE(chunk.wait());
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(context.metrics().chunks_loaded, 1u) << "neither anchor nor primer";
  EXPECT_EQ(context.metrics().computed_tokens, 0u);
  expect_only_caches(context);
}

TEST_P(Disk, ListsTellsAndRemoves) {
  warm();
  const tsr::Context context = warmable();
  engine::Context& engine = engine_of(context);
  std::vector<engine::DiskEntry> entries = engine.list_disk();
  ASSERT_EQ(entries.size(), kChunks);
  for (uint64_t i = 0; i < kChunks; ++i) {
    tsr::ChunkOptions lazy;
    lazy.flags = TSR_CHUNK_LAZY;
    const std::string text = digits(9 + 13 * i, i);
    const tsr::ChunkInfo info = tsr::Chunk(context, text, lazy).info();
    const kv::Identity identity{info.identity[0], info.identity[1]};
    EXPECT_EQ(engine.disk_tokens(identity), model().tokenize(text));
    EXPECT_EQ(std::ranges::count(entries, identity, &engine::DiskEntry::identity), 1);
    EXPECT_TRUE(engine.remove_from_disk(identity));
    EXPECT_FALSE(engine.remove_from_disk(identity));
    EXPECT_THROW(engine.disk_tokens(identity), Error);
    EXPECT_EQ(engine.list_disk().size(), kChunks - 1 - i);
  }
  EXPECT_EQ(ask(context), wanted());
  tsr::ContextOptions options = with(path_);
  options.set_primer("another");
  const tsr::Context other = this->context(options);
  EXPECT_TRUE(engine_of(other).list_disk().empty()) << "not of this context";
  EXPECT_TRUE(engine_of(this->context(with(""))).list_disk().empty());
}

TEST_P(Disk, ARemovedChunkIsNotStoredAfterwards) {
  for (int i = 0; i < 10; ++i) {
    const tsr::Context context = warmable();
    const tsr::Chunk chunk(context, digits(30, static_cast<uint64_t>(i)));
    EXPECT_TRUE(chunk.wait());
    const tsr::ChunkInfo info = chunk.info();
    engine_of(context).remove_from_disk({info.identity[0], info.identity[1]});
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_TRUE(engine_of(context).list_disk().empty()) << i;
  }
}

TEST_P(Disk, FoldersThatCannotBeUsed) {
  std::string message;
  const std::string deep = path_ + "/no/parent";
  EXPECT_EQ(status_of([&] { warmable(deep); }, &message), TSR_NOT_FOUND);
  EXPECT_NE(message.find(deep), std::string::npos) << message;
  const std::string file = temp_.file("file");
  write_file(file, {'x'});
  EXPECT_EQ(status_of([&] { warmable(file); }, &message), TSR_IO_ERROR);
  EXPECT_NE(message.find(file), std::string::npos) << message;
  tsr::ContextOptions options = with("");
  options.cache_folder = "";
  EXPECT_EQ(status_of([&] { context(options); }), TSR_INVALID_ARGUMENT);
  options.set_cache_folder(std::string_view("a\0b", 3));
  EXPECT_EQ(status_of([&] { context(options); }), TSR_INVALID_ARGUMENT);
  options = with("");
  options.cache_budget = 1;
  EXPECT_EQ(status_of([&] { context(options); }), TSR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace tessera::test
