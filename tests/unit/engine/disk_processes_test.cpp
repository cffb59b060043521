// Processes that share a cache folder, and that are killed while they write to it.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/disk_fixture.hpp"

extern char** environ;

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

// A running cache_process, past its start.
class Process {
 public:
  Process(const std::string& folder, uint64_t rounds, uint64_t seed) {
    std::array<int, 2> out{};
    if (::pipe(out.data()) != 0) return;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    ::posix_spawn_file_actions_addclose(&actions, out[0]);
    ::posix_spawn_file_actions_addclose(&actions, out[1]);
    std::array<std::string, 5> words = {TESSERA_CACHE_PROCESS, model_path(), folder,
                                        std::to_string(rounds), std::to_string(seed)};
    std::array<char*, 6> arguments{};
    for (size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
    const int error =
        ::posix_spawn(&id_, words[0].c_str(), &actions, nullptr, arguments.data(), environ);
    EXPECT_EQ(error, 0) << words[0];
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    char byte;
    EXPECT_EQ(::read(out[0], &byte, 1), 1) << "it ended early";
    ::close(out[0]);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void kill() const { ::kill(id_, SIGKILL); }
  // What waitpid tells.
  int wait() const {
    int status = 0;
    EXPECT_EQ(::waitpid(id_, &status, 0), id_);
    return status;
  }

 private:
  pid_t id_ = 0;
};

class DiskProcesses : public DiskFixture {
 protected:
  void kill_while_storing(int tries) {
    Random random(5);
    size_t half_written = 0, whole = 0;
    for (int i = 0; i < tries && !HasFailure(); ++i) {
      SCOPED_TRACE("try " + std::to_string(i));
      // Something is to be written each time.
      if (random.one_in(5)) fs::remove_all(path_);
      if (fs::exists(path_)) {
        for (const fs::path& file : files(path_)) {
          if (random.one_in(2)) fs::remove(file);
        }
      }
      const Process process(path_, 0, random.below(1000));
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(40'000)));
      process.kill();
      EXPECT_TRUE(WIFSIGNALED(process.wait()));
      if (fs::exists(path_)) {
        half_written += files(path_, "tmp-").size();
        whole += files(path_).size() - files(path_, "tmp-").size();
      }
      const tsr::Metrics m = expect_as_always();
      EXPECT_EQ(m.load_failures + m.store_failures, 0u);
      EXPECT_TRUE(files(path_, "tmp-").empty());
      for (const fs::path& file : files(path_)) {
        if (file.extension() == ".gate") {
          EXPECT_EQ(fs::file_size(file), 88u);
        }
      }
    }
    EXPECT_GT(whole, 0u);
    RecordProperty("half_written", std::to_string(half_written));
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, DiskProcesses, testing::Values("cpu"));

TEST_P(DiskProcesses, AreKilledWhileTheyStore) {
  kill_while_storing(10);
}

// Three that answer and store, and a fourth, this one, that deletes and damages what they wrote.
TEST_P(DiskProcesses, ShareAFolder) {
  fs::create_directory(path_);
  {
    const Vandal vandal(path_);
    const Process a(path_, 10, 1), b(path_, 10, 2), c(path_, 10, 3);
    for (const Process* process : {&a, &b, &c}) EXPECT_EQ(process->wait(), 0);
  }
  EXPECT_EQ(expect_as_always().store_failures, 0u);
}

class FullDiskProcesses : public DiskProcesses {};
INSTANTIATE_TEST_SUITE_P(Devices, FullDiskProcesses, testing::Values("cpu"));

TEST_P(FullDiskProcesses, AreKilledWhileTheyStore) {
  kill_while_storing(200);
}

}  // namespace
}  // namespace tessera::test
