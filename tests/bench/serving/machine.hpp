// Processor time: of this program, and of all others.
#pragma once

#include <optional>

#include "tests/bench/common/figures.hpp"

namespace serving {

// Processor seconds of this program so far.
double own_seconds();

class Neighbours {
 public:
  Neighbours();
  // Processors that other programs used since then, on average; nothing where it is not known.
  std::optional<double> processors() const;

 private:
  bench::Clock::time_point start_;
  std::optional<double> busy_;  // seconds of all processors together, less our own
};

}  // namespace serving
