// The disk tier: a restart is warm, and whatever happens to the folder, answers have the bits that
// they have without one.
#include <sys/mount.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "backends/remote/faults.hpp"
#include "backends/remote/remote.hpp"
#include "runtime/abi/objects.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

const std::string kAnchor = "<|im_start|>anchor";
const std::string kPrimer = "some ordinary text";
constexpr uint64_t kChunks = 3;

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::vector<fs::path> files(const std::string& folder, const std::string& kind = "") {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(kind)) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

std::vector<char> bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Logits behind anchor, three chunks of other lengths and a question.
std::vector<float> ask(tsr::Session& session, const tsr::Context& context, uint64_t seed = 0) {
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  session.add_anchor();
  for (uint64_t i = 0; i < kChunks; ++i) {
    session.add_chunk(tsr::Chunk(context, digits(9 + 13 * i, seed + i), lazy));
  }
  session.add_text("?");
  return session.evaluate();
}

std::vector<float> ask(const tsr::Context& context, uint64_t seed = 0) {
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  return ask(session, context, seed);
}

engine::Context& engine_of(const tsr::Context& context) {
  return *abi::find<abi::ContextObject>(context.get())->engine;
}

class Disk : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    model();
    descriptors_ = open_descriptors();
  }
  void TearDown() override {
    EngineTest::TearDown();
    if (GetParam() == "cpu") {
      EXPECT_EQ(open_descriptors(), descriptors_);
    }
  }

  tsr::ContextOptions with(const std::string& folder, uint64_t pages = 512) {
    tsr::ContextOptions options = small(pages);
    options.flags = 0;
    options.set_anchor(kAnchor);
    options.set_primer(kPrimer);
    if (!folder.empty()) options.set_cache_folder(folder);
    return options;
  }
  tsr::Context warmable(const std::string& folder = "", uint64_t pages = 512) {
    return context(with(folder.empty() ? path_ : folder, pages));
  }
  const std::vector<float>& wanted() {
    if (wanted_.empty()) wanted_ = ask(context(with("")));
    return wanted_;
  }
  // Answers, and waits until all that was encoded is in the folder: anchor, primer and chunks.
  void warm(const std::string& folder = "") {
    const tsr::Context context = warmable(folder);
    EXPECT_EQ(ask(context), wanted());
    wait_stored(context, kChunks + 2);
  }
  static void wait_stored(const tsr::Context& context, uint64_t count) {
    for (int i = 0; i < 20'000; ++i) {
      const tsr::Metrics m = context.metrics();
      if (m.chunks_stored + m.store_failures >= count) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "not stored: " << context.metrics().chunks_stored;
  }
  // A context that meets whatever is in the folder answers as always and forgets nothing.
  tsr::Metrics expect_as_always(const std::string& folder = "") {
    const tsr::Context context = warmable(folder);
    EXPECT_EQ(ask(context), wanted());
    expect_only_caches(context);
    return context.metrics();
  }

  TempFolder temp_;
  std::string path_ = temp_.file("cache");
  std::vector<float> wanted_;
  size_t descriptors_ = 0;
};
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

TEST_P(Disk, AFileOfAnotherModelUnderOurName) {
  const TempFolder models;
  const std::string other_path = models.file("other.gguf");
  TinyModel tiny;
  tiny.context = 8192;
  tiny.seed = 2;
  write_tiny_model(other_path, tiny);
  const std::string folder = temp_.file("other");
  {
    const tsr::Model other = load_model(GetParam(), other_path);
    const tsr::Context context(other, with(folder));
    ask(context);
    wait_stored(context, kChunks + 2);
  }
  warm();
  const auto tokens = [](const fs::path& file) {
    const std::string name = file.filename();
    return name.substr(name.rfind('-'));
  };
  for (const fs::path& ours : files(path_, "chunk-")) {
    for (const fs::path& theirs : files(folder, "chunk-")) {
      if (tokens(ours) == tokens(theirs)) {
        fs::copy_file(theirs, ours, fs::copy_options::overwrite_existing);
      }
    }
  }
  EXPECT_EQ(expect_as_always().load_failures, kChunks);
}

// Damages one file after another; each is encoded again, and stored again.
void damage(const tsr::Model& model, const tsr::ContextOptions& options, const std::string& path,
            const std::vector<float>& wanted, int times, uint64_t seed) {
  Random random(seed);
  const std::vector<fs::path> all = files(path);
  for (int i = 0; i < times && !testing::Test::HasFailure(); ++i) {
    const fs::path& file = all[random.below(all.size())];
    const bool needed = !file.filename().string().starts_with("primer-");
    SCOPED_TRACE("damage " + std::to_string(i) + " to " + file.filename().string());
    const std::vector<char> good = bytes_of(file);
    std::vector<char> bad = good;
    if (i % 4 == 0) {
      bad.resize(random.below(bad.size()));
    } else {
      const uint64_t bit = random.below(bad.size() * 8);
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    }
    write_file(file, bad);
    const tsr::Context context(model, options);
    EXPECT_EQ(ask(context), wanted);
    expect_only_caches(context);
    EXPECT_EQ(context.metrics().load_failures, needed ? 1u : 0u);
    if (!needed) {
      write_file(file, good);
      continue;
    }
    for (int wait = 0; wait < 20'000 && context.metrics().chunks_stored == 0; ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(bytes_of(file).size(), good.size());
  }
}

TEST_P(Disk, DamagedFilesAreEncodedAgain) {
  warm();
  damage(model(), with(path_), path_, wanted(), 24, 1);
}

class FullDisk : public Disk {};
TESSERA_ON_EACH_DEVICE(FullDisk);

TEST_P(FullDisk, AThousandDamages) {
  warm();
  damage(model(), with(path_), path_, wanted(), GetParam() == "cpu" ? 1334 : 100, 2);
}

// Chunk and base all damaged: a failed load needs its base, whose load fails, too.
TEST_P(Disk, EveryFileDamaged) {
  warm();
  for (const bool empty : {false, true}) {
    for (const fs::path& file : files(path_)) {
      std::vector<char> bytes = bytes_of(file);
      bytes[bytes.size() / 2] ^= 1;
      if (empty) bytes.clear();
      write_file(file, bytes);
    }
    const tsr::Context context = warmable();
    EXPECT_EQ(ask(context), wanted());
    expect_only_caches(context);
    EXPECT_EQ(context.metrics().load_failures, kChunks + 2);
    wait_stored(context, kChunks + 2);
  }
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

struct Log {
  std::mutex lock;
  std::vector<std::string> warnings;

  static void add(void* self, tsr_log_level level, const char* message, uint64_t length) {
    Log& log = *static_cast<Log*>(self);
    std::lock_guard guard(log.lock);
    EXPECT_EQ(level, TSR_LOG_WARNING);
    log.warnings.emplace_back(message, length);
  }
};

class LoggedDisk : public Disk {
 protected:
  tsr::Context logged(const std::string& folder) {
    tsr::RuntimeOptions options;
    options.log = &Log::add;
    options.log_user_data = &log_;
    const tsr::Runtime runtime(options);
    tsr::ModelOptions on;
    on.device = GetParam().data();
    on.device_length = GetParam().size();
    return tsr::Context(tsr::Model(runtime, model_path(), on), with(folder));
  }
  std::vector<std::string> warnings() {
    std::lock_guard guard(log_.lock);
    return log_.warnings;
  }
  Log log_;
};
TESSERA_ON_EACH_DEVICE(LoggedDisk);

TEST_P(LoggedDisk, OneWarningForADamagedFile) {
  warm();
  const fs::path file = files(path_, "chunk-")[0];
  fs::resize_file(file, 100);
  {
    const tsr::Context context = logged(path_);
    EXPECT_EQ(ask(context), wanted());
  }
  ASSERT_EQ(warnings().size(), 1u);
  EXPECT_NE(warnings()[0].find(file.string()), std::string::npos) << warnings()[0];
}

// A small file system of its own, where the system allows mounts.
class Mount {
 public:
  explicit Mount(const std::string& path) : path_(path) {
    fs::create_directory(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=20k") == 0;
  }
  ~Mount() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  explicit operator bool() const { return mounted_; }
  bool make_read_only() {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=20k") == 0;
  }

 private:
  std::string path_;
  bool mounted_;
};

TEST_P(LoggedDisk, AFullDisk) {
  wanted();
  Mount mount(path_);
  if (!mount) GTEST_SKIP() << "cannot mount a file system here";
  {
    const tsr::Context context = logged(path_);
    EXPECT_EQ(ask(context), wanted());
    wait_stored(context, kChunks + 2);
    EXPECT_GE(context.metrics().store_failures, 1u);
    EXPECT_GE(context.metrics().chunks_stored, 1u);
    expect_only_caches(context);
  }
  EXPECT_GE(warnings().size(), 1u);
  EXPECT_NE(warnings()[0].find("No space left"), std::string::npos) << warnings()[0];
  const tsr::Metrics m = expect_as_always();
  EXPECT_EQ(m.load_failures, 0u) << "only whole files are there";
}

TEST_P(LoggedDisk, AReadOnlyFolderIsRead) {
  warm();
  const std::string mounted = temp_.file("mounted");
  Mount mount(mounted);
  if (!mount) GTEST_SKIP() << "cannot mount a file system here";
  fs::copy(files(path_, "chunk-")[0], mounted);
  ASSERT_TRUE(mount.make_read_only());
  {
    const tsr::Context context = logged(mounted);
    EXPECT_EQ(ask(context), wanted());
    EXPECT_EQ(context.metrics().chunks_loaded, 1u);
    expect_only_caches(context);
    EXPECT_EQ(context.metrics().chunks_stored, 0u);
    EXPECT_EQ(context.metrics().store_failures, 0u);
  }
  ASSERT_EQ(warnings().size(), 1u);
  EXPECT_NE(warnings()[0].find("Read-only"), std::string::npos) << warnings()[0];
}

TEST_P(LoggedDisk, TheFolderIsRemovedMeanwhile) {
  warm();
  {
    const tsr::Context context = logged(path_);
    EXPECT_EQ(ask(context), wanted());
    fs::remove_all(path_);
    const std::vector<float> others = ask(context, 50);
    EXPECT_EQ(others, ask(this->context(with("")), 50));
    wait_stored(context, 1);
    wait_until_idle(context);
    EXPECT_EQ(ask(context), wanted());
    expect_only_caches(context);
    EXPECT_GE(context.metrics().store_failures, 1u);
  }
  EXPECT_EQ(warnings().size(), 1u) << "not one for each text";
  warm();
}

// Somebody deletes and damages files all the time while sessions run.
TEST_P(Disk, FilesAreDeletedMeanwhile) {
  warm();
  const tsr::Context plain = context(with(""));
  std::vector<std::vector<float>> want;
  for (uint64_t seed = 0; seed < 6; ++seed) want.push_back(ask(plain, seed * 10));
  std::atomic<bool> stop{false};
  std::thread other([&] {
    Random random(3);
    while (!stop) {
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(path_, ignored)) {
        if (random.one_in(3)) fs::remove(entry.path(), ignored);
        if (random.one_in(6)) fs::resize_file(entry.path(), random.below(2000), ignored);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (int round = 0; round < 15 && !HasFailure(); ++round) {
    const tsr::Context context = warmable("", 40);
    for (uint64_t i = 0; i < 6; ++i) {
      const uint64_t seed = (i * 5 + static_cast<uint64_t>(round)) % 6;
      EXPECT_EQ(ask(context, seed * 10), want[seed]);
    }
    expect_only_caches(context);
  }
  stop = true;
  other.join();
  EXPECT_EQ(expect_as_always().store_failures, 0u);
}

// Contexts of several threads encode, store and load the same texts at the same time.
TEST_P(Disk, ContextsShareAFolder) {
  wanted();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 4; ++i) {
        const tsr::Context context(model(), with(path_));
        wrong += ask(context) != wanted_;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const tsr::Metrics m = expect_as_always();
  EXPECT_EQ(m.load_failures, 0u);
  for (const fs::path& file : files(path_)) {
    EXPECT_FALSE(file.filename().string().starts_with("tmp-"));
  }
}

TEST_P(Disk, TheBudgetHolds) {
  wanted();
  tsr::ContextOptions options = with(path_);
  options.cache_budget = 40 * kTokenBytes * 2;
  const tsr::Context context = this->context(options);
  for (uint64_t seed = 0; seed < 60; seed += 10) ask(context, seed);
  wait_until_idle(context);
  for (int i = 0; i < 100; ++i) {
    uint64_t bytes = 0;
    std::error_code gone;
    for (const fs::path& file : files(path_)) {
      const uint64_t size = fs::file_size(file, gone);
      bytes += gone ? 0 : size;
    }
    EXPECT_LE(bytes, options.cache_budget);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GT(context.metrics().chunks_stored, 4u);
  EXPECT_LE(context.metrics().disk_bytes, options.cache_budget);
}

// Sessions and contexts are cancelled and destroyed at any moment of loading and storing.
TEST_P(Disk, EndsAtEachStage) {
  warm();
  Random random(4);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  for (int i = 0; i < 60 && !HasFailure(); ++i) {
    if (i % 3 == 0) fs::remove(files(path_)[random.below(files(path_).size())]);
    std::optional<tsr::Context> context(warmable());
    {
      tsr::Session session(*context, repair(TSR_REPAIR_NONE));
      session.add_anchor();
      for (uint64_t c = 0; c < kChunks; ++c) {
        session.add_chunk(tsr::Chunk(*context, digits(9 + 13 * c, c), lazy));
      }
      session.add_text("?");
      session.generate(greedy(3));
      const auto moment = std::chrono::microseconds(random.below(1500));
      std::this_thread::sleep_for(moment);
      switch (i % 4) {
        case 0:
          session.cancel();
          read(session);
          break;
        case 1:
          session.reset();
          break;
        case 2:
          context.reset();
          break;
        default:
          EXPECT_EQ(read(session).finish, TSR_FINISH_LENGTH);
      }
    }
    if (context && i % 2 == 0) {
      EXPECT_EQ(ask(*context), wanted());
      expect_only_caches(*context);
    }
  }
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

// A device that is lost while texts load takes all along, and nothing hangs.
TEST_P(Disk, TheDeviceIsLost) {
  if (GetParam() != "remote") GTEST_SKIP() << "the CPU is not lost";
  warm();
  release_models();
  for (int i = 0; i < 10; ++i) {
    const tsr::Model model = load_model("remote");
    const tsr::Context context(model, with(path_));
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_anchor();
    session.add_chunk(tsr::Chunk(context, digits(9, 0)));
    session.add_text("?");
    session.generate(greedy(200));
    std::this_thread::sleep_for(std::chrono::microseconds(300 * i));
    remote::kill_all_workers();
    EXPECT_EQ(read(session).status, TSR_DEVICE_LOST);
    expect_idle(context);
  }
  remote::reset_remote_report();
}

}  // namespace
}  // namespace tessera::test
