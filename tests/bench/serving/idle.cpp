// Processor time of a program whose sessions have all answered and that asks for nothing.
#include <sys/resource.h>

#include <cstdio>
#include <thread>

#include "tests/bench/serving/bench.hpp"

namespace serving {
namespace {

constexpr std::uint32_t kSessions = 16;
constexpr std::uint32_t kAnswer = 16;
constexpr double kBar = 0.1;  // percent: what counts as none

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

void measure_idle(Bench& bench) {
  const tsr::Context context = bench.context();
  std::vector<tsr::Session> sessions;
  for (std::uint32_t i = 0; i < kSessions; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_tokens(bench.random_tokens(bench.counts.prompt_tokens));
    sessions.back().generate(greedy(kAnswer));
  }
  for (tsr::Session& session : sessions) session.read();
  const Clock::time_point start = Clock::now();
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::duration<double>(bench.counts.idle_seconds));
  const double used = processor_seconds() - before;
  const double seconds = seconds_since(start);
  const double percent = 100 * used / seconds;
  std::printf(
      "\nidle, %u sessions that have answered: %.2f ms of processor time in %.1f s, %.3f %% "
      "of one core\nbar: 0 %%, below %.1f %%: %s\n",
      kSessions, 1e3 * used, seconds, percent, kBar, met(percent < kBar));
  bench.log({{"kind", "idle"},
             {"sessions", kSessions},
             {"seconds", seconds},
             {"processor_seconds", used},
             {"percent_of_one_core", percent}});
}

}  // namespace serving
