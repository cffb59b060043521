// Times, and what is told of many of them.
#pragma once

#include <chrono>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of the values in order, the one that `share` of them do not exceed; `values` is not empty.
double quantile(std::vector<double> values, double share);
// Middle value, or the mean of the two middle ones; `values` is not empty.
double median(std::vector<double> values);
// What is printed of a bar.
const char* met(bool is);

}  // namespace bench
