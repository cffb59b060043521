#include "tests/conformance/devices.hpp"

#include <gtest/gtest.h>

#include <utility>

namespace tessera::test {
namespace {

std::vector<ConformanceDevice>& list() {
  static std::vector<ConformanceDevice> devices;
  return devices;
}

}  // namespace

const std::vector<ConformanceDevice>& conformance_devices() {
  return list();
}

int run_conformance(int argc, char** argv, std::vector<ConformanceDevice> devices) {
  list() = std::move(devices);  // before gtest asks the generators
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

}  // namespace tessera::test
