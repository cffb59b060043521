// Processor time of a program whose sessions have all answered and that asks for nothing.
#include <cstdio>
#include <thread>

#include "tests/bench/serving/bench.hpp"
#include "tests/bench/serving/machine.hpp"

namespace serving {
namespace {

constexpr std::uint32_t kSessions = 16;
constexpr std::uint32_t kAnswer = 16;
constexpr double kBar = 0.1;  // percent: what counts as none

}  // namespace

void measure_idle(Bench& bench) {
  const tsr::Context context = bench.context();
  std::vector<tsr::Session> sessions;
  for (std::uint32_t i = 0; i < kSessions; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_tokens(bench.random_tokens(bench.counts.prompt_tokens));
    sessions.back().generate(bench::greedy(kAnswer));
  }
  for (tsr::Session& session : sessions) session.read();
  const bench::Clock::time_point start = bench::Clock::now();
  const double before = own_seconds();
  std::this_thread::sleep_for(std::chrono::duration<double>(bench.counts.idle_seconds));
  const double used = own_seconds() - before;
  const double seconds = bench::seconds_since(start);
  const double percent = 100 * used / seconds;
  std::printf(
      "\nidle, %u sessions that have answered: %.2f ms of processor time in %.1f s, %.3f %% "
      "of one core\nbar: 0 %%, below %.1f %%: %s\n",
      kSessions, 1e3 * used, seconds, percent, kBar, bench::met(percent < kBar));
  bench.log({{"kind", "idle"},
             {"sessions", kSessions},
             {"seconds", seconds},
             {"processor_seconds", used},
             {"percent_of_one_core", percent}});
}

}  // namespace serving
