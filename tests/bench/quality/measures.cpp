#include "tests/bench/quality/measures.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

namespace tessera::quality {
namespace {

constexpr int kDraws = 2000;

// `statistic` of prompts drawn again and again with replacement.
Interval bootstrap(size_t count, uint64_t seed,
                   const std::function<double(std::span<const size_t>)>& statistic) {
  if (count == 0) return {};
  std::mt19937_64 random(seed);
  std::vector<size_t> drawn(count);
  std::vector<double> values;
  for (int i = 0; i < kDraws; ++i) {
    for (size_t& index : drawn) index = random() % count;
    values.push_back(statistic(drawn));
  }
  return {percentile(values, 0.025), percentile(values, 0.975)};
}

double mean_of(std::span<const double> values, std::span<const size_t> drawn) {
  double sum = 0;
  for (const size_t index : drawn) sum += values[index];
  return sum / static_cast<double>(drawn.size());
}

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double percentile(std::vector<double> values, double p) {
  std::ranges::sort(values);
  const double place = p * static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::lround(place))];
}

Interval mean_interval(std::span<const double> values, uint64_t seed) {
  return bootstrap(values.size(), seed,
                   [&](std::span<const size_t> drawn) { return mean_of(values, drawn); });
}

Interval ratio_interval(std::span<const double> over, std::span<const double> under,
                        uint64_t seed) {
  return bootstrap(over.size(), seed, [&](std::span<const size_t> drawn) {
    return mean_of(over, drawn) / mean_of(under, drawn);
  });
}

}  // namespace tessera::quality
