// A test of kernels, run for each instruction set that this machine runs.
#pragma once

#include <gtest/gtest.h>

#include "backends/cpu/isa.hpp"

namespace tessera::cpu {

class IsaTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!GetParam().supported()) GTEST_SKIP() << "this machine does not run it";
    kernels = &GetParam().kernels();
  }
  const Kernels* kernels = nullptr;
};

}  // namespace tessera::cpu
