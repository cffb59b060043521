// The CPU backend's threads: every item once, phases apart, no work when idle.
#include "backends/cpu/thread_pool.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <vector>

namespace tessera::cpu {
namespace {

struct Job {
  explicit Job(uint32_t threads) : team(threads) {}
  Team team;
  std::vector<uint32_t> first = std::vector<uint32_t>(1000, 0);
  std::vector<uint32_t> second = std::vector<uint32_t>(1000, 0);
};

// The second phase reads what other threads wrote in the first.
void two_phases(void* context, uint32_t thread) {
  Job& job = *static_cast<Job*>(context);
  const Member member = {job.team, thread};
  member.parallel(1000, [&](uint32_t i) { job.first[i] += i + 1; });
  member.parallel(1000, [&](uint32_t i) { job.second[i] += job.first[999 - i]; });
  member.parallel(0, [](uint32_t) {});
}

TEST(ThreadPool, EveryItemOnceInEveryPhase) {
  ThreadPool pool;
  pool.reserve(4);
  for (int round = 0; round < 200; ++round) {
    const uint32_t threads = 1 + static_cast<uint32_t>(round) % 4;
    Job job(threads);
    pool.run(threads, two_phases, &job);
    for (uint32_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(job.first[i], i + 1);
      ASSERT_EQ(job.second[i], 1000 - i);
    }
  }
}

TEST(ThreadPool, GrowsAndEndsWithoutARun) {
  ThreadPool pool;
  pool.reserve(2);
  pool.reserve(5);
  pool.reserve(3);
  Job job(5);
  pool.run(5, two_phases, &job);
  EXPECT_EQ(job.second[0], 1000u);
  ThreadPool unused;
  unused.reserve(3);
}

double processor_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

TEST(ThreadPool, IdleThreadsSleep) {
  ThreadPool pool;
  pool.reserve(4);
  Job job(4);
  pool.run(4, two_phases, &job);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(processor_seconds() - before, 0.03);
}

}  // namespace
}  // namespace tessera::cpu
