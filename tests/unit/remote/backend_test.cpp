// The remote device against the CPU device, and its faults.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "backends/registry.hpp"
#include "backends/remote/faults.hpp"
#include "backends/remote/remote.hpp"
#include "tests/unit/remote/small_model.hpp"

namespace tessera::remote::test {
namespace {

using Clock = std::chrono::steady_clock;

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

// Every test ends with no object, process or descriptor left, and no rule broken but those it
// expects.
class RemoteBackendTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    register_remote_provider();
    register_remote_provider();
  }
  void SetUp() override {
    set_faults({});
    descriptors_ = open_descriptors();
    reset_remote_report();
  }
  void TearDown() override {
    set_faults({});
    const RemoteReport report = remote_report();
    EXPECT_EQ(report.live, RemoteStats{});
    EXPECT_EQ(report.left_behind, RemoteStats{});
    EXPECT_EQ(report.backends, 0);
    EXPECT_EQ(report.workers, 0);
    EXPECT_EQ(report.failed_workers, 0u);
    EXPECT_EQ(report.lost_devices, expected_losses_);
    EXPECT_EQ(report.breaches.size(), expected_breaches_);
    for (const std::string& breach : report.breaches) {
      if (expected_breaches_ == 0) ADD_FAILURE() << breach;
    }
    EXPECT_EQ(open_descriptors(), descriptors_);
    EXPECT_TRUE(::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD) << "a process is left";
  }
  static std::unique_ptr<Backend> open(MathMode math = MathMode::fast) {
    return open_device("remote", {.math = math});
  }
  // What the CPU gives for the prompt of `seed`.
  static std::vector<LogitsResult> on_cpu(uint32_t seed, uint32_t count,
                                          MathMode math = MathMode::fast) {
    const auto cpu = open_device("cpu", {.math = math});
    const SmallModel model(*cpu);
    return SmallSession(model).generate(seed, count);
  }
  template <class F>
  static void expect_status(Status status, F call) {
    try {
      call();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), status) << error.what();
    }
  }

  template <class F>
  static Status status_of(F call) {
    try {
      call();
    } catch (const Error& error) {
      return error.status();
    }
    return Status::ok;
  }

  size_t descriptors_ = 0;
  uint64_t expected_losses_ = 0;
  size_t expected_breaches_ = 0;
};

TEST_F(RemoteBackendTest, IsListed) {
  bool found = false;
  for (const DeviceInfo& device : enumerate_devices()) {
    if (device.id != "remote") continue;
    EXPECT_FALSE(found) << "twice";
    found = true;
    EXPECT_TRUE(device.available) << device.reason;
    EXPECT_GT(device.memory_total, 0u);
  }
  EXPECT_TRUE(found);
  expect_status(Status::not_found, [] { open_device("remote:1", {}); });
}

TEST_F(RemoteBackendTest, ComputesWhatTheCpuComputes) {
  for (const MathMode math : {MathMode::fast, MathMode::reference}) {
    const auto backend = open(math);
    const SmallModel model(*backend);
    SmallSession session(model);
    const std::vector<LogitsResult> results = session.generate(1, 24);
    EXPECT_EQ(results.size(), 24u);
    EXPECT_FALSE(same(results[0], results[1]));
    EXPECT_TRUE(same(results, on_cpu(1, 24, math)));
    EXPECT_EQ(worker_stats(*backend), remote_report().live);
    EXPECT_EQ(remote_report().live.programs, 1);
    EXPECT_GT(remote_report().live.bytes, 0);
  }
}

TEST_F(RemoteBackendTest, PagesMoveAsTheCpuMovesThem) {
  const auto cpu = open_device("cpu", {});
  const auto backend = open();
  const SmallModel cpu_model(*cpu);
  const SmallModel model(*backend);
  EXPECT_EQ(cpu->page_layout_name(SmallModel::layout()),
            backend->page_layout_name(SmallModel::layout()));
  EXPECT_EQ(cpu->page_bytes(SmallModel::layout(), 0), backend->page_bytes(SmallModel::layout(), 0));
  SmallSession cpu_session(cpu_model);
  SmallSession session(model);
  cpu_session.generate(2, 8);
  session.generate(2, 8);
  for (uint32_t page = 0; page < 4; ++page) EXPECT_EQ(cpu_session.page(page), session.page(page));
  session.pages().copy(0, 3, 0);
  EXPECT_EQ(session.page(0), session.page(3));
  session.pages().write(0, 1, std::vector<uint8_t>(session.page(1).size(), 9).data());
  EXPECT_EQ(session.page(1)[100], 9);
  std::vector<uint8_t> out(session.page(0).size());
  expect_status(Status::invalid_argument, [&] { session.pages().read(0, 4, out.data()); });
  expect_status(Status::invalid_argument, [&] { session.pages().read(1, 0, out.data()); });
}

TEST_F(RemoteBackendTest, SubmitReturnsBeforeTheStepIsDone) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  const auto start = Clock::now();
  set_faults({.delay_us = 50'000});
  EXPECT_EQ(session.run({1, 2, 3}).full.size(), kVocabulary);
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(50));

  set_faults({.delay_us = 60'000'000});
  session.program().plan(session.step({4}));
  session.program().submit();
  kill_worker(*backend);  // nobody waits for a minute
  StepResult result;
  expect_status(Status::device_lost, [&] { session.program().wait(result); });
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(30));
  expected_losses_ = 1;
}

TEST_F(RemoteBackendTest, ManyContextsSideBySide) {
  constexpr uint32_t kContexts = 8;
  const auto backend = open();
  const SmallModel model(*backend);
  set_faults({.delay_us = 3000, .jitter_seed = 5});
  std::vector<std::vector<LogitsResult>> results(kContexts);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kContexts; ++i) {
    threads.emplace_back([&, i] { results[i] = SmallSession(model).generate(i, 16); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(remote_report().steps, kContexts * 16u);
  for (uint32_t i = 0; i < kContexts; ++i) EXPECT_TRUE(same(results[i], on_cpu(i, 16))) << i;
}

TEST_F(RemoteBackendTest, SeveralBackends) {
  const auto first = open();
  const auto second = open();
  EXPECT_EQ(remote_report().workers, 2);
  const SmallModel model(*first);
  const SmallModel other(*second);
  const SmallSession session(model);
  const uint32_t counts[] = {1};
  const auto pages = second->create_pages(SmallModel::layout(), counts);
  expect_status(Status::invalid_argument, [&] { first->compile(model.graph(), *pages, {}); });
  expect_status(Status::invalid_argument, [&] { second->compile(model.graph(), *pages, {}); });
}

TEST_F(RemoteBackendTest, ErrorsOfTheDeviceComeBack) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  EXPECT_THROW(session.program().plan(session.step({int32_t{kVocabulary}})), Error);
  EXPECT_EQ(session.run({1, 2}).full.size(), kVocabulary);  // and the program goes on
  expect_status(Status::invalid_argument, [&] {
    backend->load_weight({.name = "odd", .type = DType::q4_0, .rows = 1, .columns = 33}, {});
  });
  expect_status(Status::out_of_device_memory, [&] {
    backend->load_weight({.name = "big", .rows = UINT32_MAX, .columns = UINT32_MAX}, {});
  });
}

TEST_F(RemoteBackendTest, AReaderThatThrowsLeavesNothing) {
  const auto backend = open();
  const WeightDesc desc{.name = "w", .rows = 1024, .columns = 1024};
  EXPECT_THROW(backend->load_weight(desc,
                                    [](uint64_t offset, void*, uint64_t) {
                                      if (offset > 0) throw std::runtime_error("cancelled");
                                    }),
               std::runtime_error);
  EXPECT_EQ(worker_stats(*backend), RemoteStats{});
}

TEST_F(RemoteBackendTest, EachAllocationMayFail) {
  int failures = 0;
  for (int64_t n = 0;; ++n) {
    const auto backend = open();
    set_faults({.fail_allocation_after = n});
    try {
      const SmallModel model(*backend);
      SmallSession session(model);
      session.run({1, 2, 3});
      EXPECT_GE(faults().fail_allocation_after, 0);
      break;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), Status::out_of_device_memory) << error.what();
      EXPECT_EQ(faults().fail_allocation_after, -1);
      EXPECT_EQ(worker_stats(*backend), RemoteStats{});
      ++failures;
    }
  }
  EXPECT_EQ(failures, 21 + 2);  // weights of the model; page memory and program
}

TEST_F(RemoteBackendTest, AFailedStepStoresNothingAndTheDeviceLives) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  set_faults({.fail_step_after = 1});
  session.run({1, 2, 3});
  const std::vector<uint8_t> before = session.page(3);
  expect_status(Status::internal, [&] { session.run({4}); });
  EXPECT_EQ(session.page(3), before);
  session.run({4});
  EXPECT_NE(session.page(3), before);
}

TEST_F(RemoteBackendTest, ALostDeviceStaysLost) {
  // 2 submits and waits go through.
  for (const int64_t after : {2, 3}) {
    const auto backend = open();
    const SmallModel model(*backend);
    SmallSession session(model);
    set_faults({.lose_device_after = after});
    session.run({1});
    expect_status(Status::device_lost, [&] { session.run({2}); });
    expect_status(Status::device_lost, [&] { session.run({2}); });
    StepResult result;
    expect_status(Status::device_lost, [&] { session.program().submit(); });
    expect_status(Status::device_lost, [&] { session.program().wait(result); });
    expect_status(Status::device_lost, [&] { session.pages().copy(0, 0, 1); });
    expect_status(Status::device_lost, [&] { session.pages().read(0, 0, &result); });
    expect_status(Status::device_lost, [&] { SmallSession another(model); });
    expect_status(Status::device_lost, [&] { SmallModel another(*backend); });
    expect_status(Status::device_lost, [&] { backend->page_bytes(SmallModel::layout(), 0); });
    expect_status(Status::device_lost, [&] { backend->page_layout_name(SmallModel::layout()); });
    expect_status(Status::device_lost, [&] { worker_stats(*backend); });
    EXPECT_EQ(backend->device().id, "remote");
    EXPECT_EQ(remote_report().live.page_memories, 1);
    const auto fresh = open();
    EXPECT_EQ(worker_stats(*fresh), RemoteStats{});
  }
  expected_losses_ = 2;
}

TEST_F(RemoteBackendTest, KilledWorkerUnderContexts) {
  const auto backend = open();
  const SmallModel model(*backend);
  set_faults({.delay_us = 60'000'000});
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      SmallSession session(model);
      expect_status(Status::device_lost, [&] { session.run({1, 2, 3}); });
      expect_status(Status::device_lost, [&] { session.run({1}); });
    });
  }
  while (remote_report().steps < 4) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto start = Clock::now();
  kill_worker(*backend);
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(30));
  expected_losses_ = 1;
}

TEST_F(RemoteBackendTest, AllWorkersKilled) {
  const auto first = open();
  const auto second = open();
  kill_all_workers();
  expect_status(Status::device_lost, [&] { worker_stats(*first); });
  expect_status(Status::device_lost, [&] { worker_stats(*second); });
  const auto third = open();
  EXPECT_EQ(worker_stats(*third), RemoteStats{});
  expected_losses_ = 2;
}

TEST_F(RemoteBackendTest, DestructionDuringAStepWaitsForIt) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  set_faults({.delay_us = 100'000});
  session.program().plan(session.step({1}));
  session.program().submit();
  session.drop_program();
  EXPECT_EQ(worker_stats(*backend).programs, 0);
  EXPECT_NE(session.page(3), std::vector<uint8_t>(session.page(3).size()));  // it has been run
}

TEST_F(RemoteBackendTest, BrokenRulesAreNoted) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  StepResult result;
  Program& program = session.program();
  expect_status(Status::internal, [&] { program.submit(); });      // 1: no plan
  expect_status(Status::internal, [&] { program.wait(result); });  // 2: no submit
  program.plan(session.step({1}));
  program.submit();
  expect_status(Status::internal, [&] { program.submit(); });                 // 3: no plan
  expect_status(Status::internal, [&] { program.plan(session.step({1})); });  // 4: under way
  expect_status(Status::internal, [&] { session.pages().copy(0, 0, 1); });    // 5: under way
  program.wait(result);
  expect_status(Status::internal, [&] { program.submit(); });  // 6: a plan serves one step
  expected_breaches_ = 6;
}

TEST_F(RemoteBackendTest, TwoThreadsOnOnePageMemoryAreNoted) {
  const auto backend = open();
  const SmallModel model(*backend);
  SmallSession session(model);
  session.program().plan(session.step({1}));
  set_faults({.delay_us = 60'000'000});
  session.program().submit();
  // Either thread may find the other inside; the waiter then tries again.
  std::thread waiter([&] {
    StepResult result;
    Status status = Status::internal;
    while (status == Status::internal) {
      status = status_of([&] { session.program().wait(result); });
    }
    EXPECT_EQ(status, Status::device_lost);
  });
  // Until the waiter is inside for good, the copy breaks another rule: a step is under way.
  for (bool met = false; !met;) {
    reset_remote_report();
    EXPECT_EQ(status_of([&] { session.pages().copy(0, 0, 1); }), Status::internal);
    const std::vector<std::string> breaches = remote_report().breaches;
    met = breaches.size() == 1 && breaches[0].find("another thread") != std::string::npos;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  kill_worker(*backend);
  waiter.join();
  expected_breaches_ = 1;
  expected_losses_ = 1;
}

TEST_F(RemoteBackendTest, DestructionOutOfOrderIsNotedAndSafe) {
  auto backend = open();
  auto model = std::make_unique<SmallModel>(*backend);
  auto session = std::make_unique<SmallSession>(*model);
  session->run({1, 2, 3});
  session->drop_pages();  // 1: before its program
  session.reset();
  session = std::make_unique<SmallSession>(*model);
  model.reset();  // 21: each weight before the program
  session.reset();
  EXPECT_EQ(worker_stats(*backend), RemoteStats{});
  const WeightDesc desc{.name = "late", .rows = 1, .columns = 8};
  auto weight = backend->load_weight(desc, [](uint64_t, void* out, uint64_t size) {
    std::fill_n(static_cast<uint8_t*>(out), size, uint8_t{0});
  });
  EXPECT_EQ(weight->desc().name, "late");
  const RemoteStats left = worker_stats(*backend);
  EXPECT_EQ(left.weights, 1);
  backend.reset();  // 1: before the weight
  EXPECT_EQ(remote_report().left_behind, left);
  weight.reset();
  EXPECT_EQ(remote_report().breaches.size(), 1u + 21u + 1u);
  EXPECT_EQ(remote_report().live, RemoteStats{});
  reset_remote_report();
}

}  // namespace
}  // namespace tessera::remote::test
