// A worker that fails, lies, hangs or is not there costs the device and nothing else.
#include "backends/remote/connection.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <thread>
#include <vector>

#include "backends/remote/ledger.hpp"

namespace tessera::remote::test {
namespace {

using std::chrono::milliseconds;

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

bool has_children() {
  return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD;
}

// Gives the misbehaving worker the name of what it is to do.
class ConnectionTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tessera-remote-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    descriptors_ = open_descriptors();
    reset_remote_report();
  }
  void TearDown() override {
    EXPECT_EQ(open_descriptors(), descriptors_);
    EXPECT_FALSE(has_children());
    EXPECT_EQ(remote_report().workers, 0);
    std::filesystem::remove_all(folder_);
  }
  std::string worker(const char* name) {
    const auto path = folder_ / name;
    std::filesystem::create_symlink(BAD_WORKER, path);
    return path.string();
  }
  // The message of the device_lost that a call throws.
  static std::string lost_by(Connection& connection, milliseconds patience = milliseconds(20'000)) {
    try {
      connection.call(CountObjects{}, patience);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), Status::device_lost);
      return error.what();
    }
    return {};
  }

  std::filesystem::path folder_;
  size_t descriptors_ = 0;
};

TEST_F(ConnectionTest, MissingWorker) {
  try {
    Connection connection((folder_ / "nothing").string());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::unsupported);
    EXPECT_NE(std::string(error.what()).find("nothing"), std::string::npos);
  }
}

TEST_F(ConnectionTest, WorkerThatFails) {
  {
    Connection connection(worker("fails"));
    const std::string first = lost_by(connection);
    EXPECT_EQ(lost_by(connection), first);
    EXPECT_THROW(connection.check(), Error);
  }
  EXPECT_EQ(remote_report().failed_workers, 1u);
  EXPECT_EQ(remote_report().lost_devices, 1u);
}

TEST_F(ConnectionTest, WorkerThatDiesWithinAFrame) {
  Connection connection(worker("half-frame"));
  EXPECT_NE(lost_by(connection).find("ends within"), std::string::npos);
}

TEST_F(ConnectionTest, WorkerThatSendsGarbage) {
  Connection connection(worker("garbage"));
  EXPECT_NE(lost_by(connection).find("magic"), std::string::npos);
}

TEST_F(ConnectionTest, WorkerThatAnswersWhatNobodyAsked) {
  Connection connection(worker("wrong-id"));
  EXPECT_NE(lost_by(connection).find("nobody asked"), std::string::npos);
}

TEST_F(ConnectionTest, WorkerThatAnswersNonsense) {
  Connection connection(worker("wrong-reply"));
  try {
    connection.call(CountObjects{});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::internal) << error.what();
  }
}

TEST_F(ConnectionTest, WorkerThatIsSilent) {
  Connection connection(worker("silent"));
  EXPECT_NE(lost_by(connection, milliseconds(50)).find("no reply within"), std::string::npos);
}

TEST_F(ConnectionTest, WorkerThatDoesNotEnd) {
  { Connection connection(worker("hangs"), milliseconds(100)); }
  EXPECT_EQ(remote_report().failed_workers, 1u);
  EXPECT_EQ(remote_report().lost_devices, 0u);
}

TEST_F(ConnectionTest, LossWakesEveryCall) {
  Connection connection(worker("deaf"));
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) callers.emplace_back([&] { lost_by(connection); });
  std::this_thread::sleep_for(milliseconds(20));
  connection.kill_worker();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(remote_report().failed_workers, 0u);
  EXPECT_EQ(remote_report().lost_devices, 1u);
}

TEST_F(ConnectionTest, LossWakesASendThatIsStuck) {
  Connection connection(worker("deaf"));
  std::thread caller([&] {
    try {
      connection.call(WeightPart{.id = 1, .data = Bytes(size_t{8} << 20)});
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), Status::device_lost);
    }
  });
  std::this_thread::sleep_for(milliseconds(50));
  connection.lose("enough");
  caller.join();
}

}  // namespace
}  // namespace tessera::remote::test
