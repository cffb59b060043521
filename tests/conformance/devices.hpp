// The devices that the suite runs on. A test program lists them, then runs the suite: the same
// tests, linked as the object library `op_conformance`, hold every backend to backend.hpp.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "backends/backend.hpp"

namespace tessera::test {

struct ConformanceDevice {
  std::string id;         // for open_device
  double tolerance = 1;   // multiplies the allowed errors; 1: fp32 arithmetic
  bool bit_exact = true;  // whether batching, threads and slicing must not change a bit
  MathMode math = MathMode::reference;
  // Error, as a share of a row's largest value, that int8 activations may add where weights are
  // quantised, and that rounding to 13 and 14 bits may add where they are F16 or BF16; 0:
  // activations stay fp32.
  double int8_error = 0;
  double int16_error = 0;

  std::string name() const { return id + (math == MathMode::fast ? "-fast" : ""); }
};

inline std::ostream& operator<<(std::ostream& out, const ConformanceDevice& device) {
  return out << device.name();
}

// Of this run.
const std::vector<ConformanceDevice>& conformance_devices();

// The main of a test program: runs every linked test, the parametrised ones on each device.
int run_conformance(int argc, char** argv, std::vector<ConformanceDevice> devices);

}  // namespace tessera::test

// Runs the tests of a fixture that takes a ConformanceDevice on every device.
#define TESSERA_ON_EVERY_DEVICE(fixture)                                                \
  INSTANTIATE_TEST_SUITE_P(On, fixture, testing::ValuesIn(test::conformance_devices()), \
                           [](const auto& device) {                                     \
                             std::string name = device.param.name();                    \
                             for (char& c : name) c = std::isalnum(c) ? c : '_';        \
                             return name;                                               \
                           })
