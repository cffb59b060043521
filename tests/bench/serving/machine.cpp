#include "tests/bench/serving/machine.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace serving {
double own_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

namespace {

// The line "cpu user nice system idle iowait irq softirq steal ...", in clock ticks.
std::optional<double> others_seconds() {
  std::ifstream in("/proc/stat");
  std::string name;
  double user, nice, system, idle, waiting, irq, soft, steal;
  if (!(in >> name >> user >> nice >> system >> idle >> waiting >> irq >> soft >> steal))
    return std::nullopt;
  const double ticks = user + nice + system + irq + soft + steal;
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK)) - own_seconds();
}

}  // namespace

Neighbours::Neighbours() : start_(bench::Clock::now()), busy_(others_seconds()) {}

std::optional<double> Neighbours::processors() const {
  const std::optional<double> now = others_seconds();
  const double elapsed = bench::seconds_since(start_);
  if (!busy_ || !now || elapsed <= 0) return std::nullopt;
  return std::max(0.0, (*now - *busy_) / elapsed);
}

}  // namespace serving
