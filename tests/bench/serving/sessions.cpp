// Sessions that decode together: tokens a second of all, over the time when all of them decode.
#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>

#include "tests/bench/serving/bench.hpp"
#include "tests/bench/serving/decode_together.hpp"

namespace serving {
namespace {

constexpr double kBar = 4;
constexpr std::uint32_t kBarSessions = 16;
constexpr int kRuns = 10;  // until one has a window

double run_once(const Bench& bench, std::uint32_t count) {
  const tsr::Context context = bench.context();
  std::vector<tsr::Session> sessions;
  for (std::uint32_t i = 0; i < count; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_tokens(bench.prompt(i));
    sessions.back().evaluate();  // the prompt is not what is measured
  }
  return decode_together(context, sessions, bench.answer(bench.counts.new_tokens));
}

double run(const Bench& bench, std::uint32_t count) {
  for (int i = 0; i < kRuns; ++i)
    if (const double speed = run_once(bench, count); speed > 0) return speed;
  throw std::runtime_error(std::to_string(count) +
                           " sessions never decoded all at once: the answers are too short");
}

}  // namespace

void measure_sessions(Bench& bench) {
  std::vector<std::uint32_t> counts = bench.counts.sessions;
  if (counts.front() != 1) counts.insert(counts.begin(), 1);
  std::map<std::uint32_t, std::vector<double>> speeds, ratios;
  for (std::uint32_t round = 0; round < bench.counts.rounds; ++round) {
    std::fprintf(stderr, "sessions: round %u of %u\n", round + 1, bench.counts.rounds);
    for (const std::uint32_t count : counts) {
      speeds[count].push_back(run(bench, count));
      ratios[count].push_back(speeds[count].back() / speeds[1].back());  // within the round
    }
  }
  std::printf("\nsessions that decode together, prompts of %u tokens, %u new ones, median of %u\n",
              bench.counts.prompt_tokens, bench.counts.new_tokens, bench.counts.rounds);
  std::printf("%9s %12s %12s %8s  %s\n", "sessions", "tokens/s", "each", "ratio", "least-most");
  for (const std::uint32_t count : counts) {
    const double speed = bench::median(speeds[count]), ratio = bench::median(ratios[count]);
    const auto [least, most] = std::ranges::minmax(ratios[count]);
    std::printf("%9u %12.1f %12.1f %8.2f  %.2f-%.2f\n", count, speed, speed / count, ratio, least,
                most);
    bench.log({{"kind", "sessions"},
               {"sessions", count},
               {"tokens_per_second", speed},
               {"ratio", ratio},
               {"ratio_least", least},
               {"ratio_most", most},
               {"rounds", speeds[count]}});
  }
  if (const auto at = ratios.find(kBarSessions); at != ratios.end())
    std::printf("bar: %u sessions at least %.0f times one: %s\n", kBarSessions, kBar,
                bench::met(bench::median(at->second) >= kBar));
}

}  // namespace serving
