// Means over prompts with their intervals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::quality {

double mean(std::span<const double> values);
// The value that the share `p` of them does not exceed. Of at least one.
double percentile(std::vector<double> values, double p);

struct Interval {
  double low = 0;
  double high = 0;
};
// 95 % interval of the mean, and of the ratio of two means over the same prompts: bootstrap with
// 2,000 draws, the same for the same seed.
Interval mean_interval(std::span<const double> values, uint64_t seed);
Interval ratio_interval(std::span<const double> over, std::span<const double> under, uint64_t seed);

}  // namespace tessera::quality
