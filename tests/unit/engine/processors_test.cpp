// More threads than cores, fewer cores than threads: the same answer, and everybody's affinity as
// it was.
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <thread>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class Processors : public EngineTest {};
INSTANTIATE_TEST_SUITE_P(Devices, Processors, testing::Values("cpu"));

cpu_set_t affinity(pid_t thread = 0) {  // 0: the caller
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(thread, sizeof set, &set), 0);
  return set;
}

std::set<pid_t> threads_of_process() {
  std::set<pid_t> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    threads.insert(static_cast<pid_t>(std::stol(entry.path().filename())));
  }
  return threads;
}

// Logits behind an answer. While its threads live, each may run just where the caller may.
std::vector<float> answer(uint32_t threads) {
  const cpu_set_t before = affinity();
  const std::set<pid_t> others = threads_of_process();
  std::vector<float> logits;
  {
    tsr::ContextOptions options = small();
    options.threads = threads;
    const tsr::Model model = load_model("cpu");
    const tsr::Context context(model, options);
    tsr::Session session(context);
    session.add_text(digits(40, 1));
    generate(session, greedy(6));
    logits = session.evaluate();
    uint32_t started = 0;
    for (const pid_t thread : threads_of_process()) {
      if (others.contains(thread)) continue;
      ++started;
      const cpu_set_t now = affinity(thread);
      EXPECT_TRUE(CPU_EQUAL(&now, &before)) << "a thread of the engine";
    }
    EXPECT_EQ(started, threads ? threads : static_cast<uint32_t>(CPU_COUNT(&before)));
  }
  const cpu_set_t after = affinity();
  EXPECT_TRUE(CPU_EQUAL(&after, &before)) << "the caller";
  return logits;
}

TEST_P(Processors, ManyMoreThreadsThanCores) {
  const std::vector<float> wanted = answer(1);
  ASSERT_FALSE(wanted.empty());
  EXPECT_EQ(answer(64), wanted);
}

// As `taskset` does it: threads inherit the affinity of those that start them.
TEST_P(Processors, ConfinedToOneCore) {
  const std::vector<float> wanted = answer(1);
  ASSERT_FALSE(wanted.empty());
  std::thread([&] {
    cpu_set_t mine = affinity(), one;
    int core = 0;
    while (!CPU_ISSET(core, &mine)) ++core;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(answer(0), wanted) << "one thread a core";
    EXPECT_EQ(answer(4), wanted);
  }).join();
}

}  // namespace
}  // namespace tessera::test
