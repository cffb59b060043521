// What is wrong with a cache folder is logged, and the context goes on without it.
#include <sys/mount.h>

#include <mutex>
#include <thread>

#include "tests/unit/engine/disk_fixture.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

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

class DiskWarnings : public DiskFixture {
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
TESSERA_ON_EACH_DEVICE(DiskWarnings);

TEST_P(DiskWarnings, OneWarningForADamagedFile) {
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

// Whoever waits for files is let go when the handle is destroyed, also where a session keeps the
// context.
TEST_P(DiskWarnings, AFlushEndsWithItsHandle) {
  tsr::Context context = logged(path_);
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  fs::remove_all(path_);
  tsr_status status = TSR_OK;
  {
    const std::lock_guard held(log_.lock);  // who cannot write waits to tell so
    EXPECT_FALSE(ask(session, context).empty());
    EXPECT_FALSE(context.flush(10));
    const tsr_context handle = context.get();
    std::thread waiting([&] { status = tsr_context_flush(handle, TSR_WAIT_FOREVER); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    context.reset();
    waiting.join();
  }
  EXPECT_TRUE(status == TSR_CANCELLED || status == TSR_INVALID_ARGUMENT) << status;
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

TEST_P(DiskWarnings, AFullDisk) {
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

TEST_P(DiskWarnings, AReadOnlyFolderIsRead) {
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

TEST_P(DiskWarnings, TheFolderIsRemovedMeanwhile) {
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

}  // namespace
}  // namespace tessera::test
