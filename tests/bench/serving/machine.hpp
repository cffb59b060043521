// How much of the machine other programs used.
#pragma once

#include <optional>

#include "tests/bench/serving/bench.hpp"

namespace serving {

class Neighbours {
 public:
  Neighbours();
  // Processors that other programs used since then, on average; nothing where it is not known.
  std::optional<double> processors() const;

 private:
  Clock::time_point start_;
  std::optional<double> busy_;  // seconds of all processors together, less our own
};

}  // namespace serving
