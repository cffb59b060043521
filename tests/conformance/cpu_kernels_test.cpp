// The CPU's kernels, each variant this machine runs, where the ops' test is too coarse.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backends/cpu/isa.hpp"
#include "backends/error.hpp"
#include "tests/conformance/isa_test.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::cpu {
namespace {

float uniform(test::Random& random, float scale) {
  return static_cast<float>((static_cast<double>(random.next() >> 11) * 0x1p-52 - 1) * scale);
}

class CpuKernels : public IsaTest {};

TEST_P(CpuKernels, EveryHalfIsReadExactly) {
  std::vector<uint16_t> halves(1 << 16);
  for (uint32_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> floats(halves.size());
  const auto* plane = reinterpret_cast<const uint8_t*>(halves.data());  // [1024][64]
  kernels->load_keys[1]({{plane, plane, plane, plane}, {0, 16, 32, 48}, 64, 4}, 1024,
                        floats.data());
  for (uint32_t i = 0; i < halves.size(); ++i) {
    const float want = test::half_to_float(halves[i]);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(floats[i])) << i;
    } else {
      EXPECT_EQ(floats[i], want) << i;
      EXPECT_EQ(std::signbit(floats[i]), std::signbit(want)) << i;
    }
  }
}

TEST_P(CpuKernels, HalvesAreRoundedToNearestEvenAndSaturate) {
  std::vector<float> floats = {0,      -0.0f,    1,     65504,   65519,     65520,   1e30f,
                               -1e30f, INFINITY, 6e-8f, 2.9e-8f, 3.1e-8f,   6.1e-5f, -5.96e-8f,
                               2049,   2051,     -4098, 1e-40f,  0.333333f, NAN};
  test::Random random(7);
  for (int i = 0; i < 50000; ++i) {
    // Any exponent.
    floats.push_back(std::ldexp(uniform(random, 1), static_cast<int>(random.below(50)) - 30));
  }
  for (uint32_t h = 0; h < 0x7bff; h += 3) {  // exact ties
    const float a = test::half_to_float(static_cast<uint16_t>(h));
    floats.push_back((a + test::half_to_float(static_cast<uint16_t>(h + 1))) / 2);
  }
  std::vector<uint16_t> halves(floats.size());
  kernels->store_value[1](floats.data(), static_cast<uint32_t>(floats.size()),
                          reinterpret_cast<uint8_t*>(halves.data()), 1, 0);
  for (size_t i = 0; i < floats.size(); ++i) {
    if (std::isnan(floats[i])) {
      EXPECT_TRUE(std::isnan(test::half_to_float(halves[i])));
    } else {
      const float inside = std::min(std::max(floats[i], -65504.0f), 65504.0f);
      EXPECT_EQ(halves[i], test::float_to_half(inside)) << floats[i];
    }
  }
}

// Each pattern of lanes, with remainders the vectors do not divide.
TEST_P(CpuKernels, SiluAndSums) {
  std::vector<float> gate, up;
  for (float x = -100; x < 100; x += 0.037f) gate.push_back(x);
  test::Random random(3);
  for (size_t i = 0; i < gate.size(); ++i) up.push_back(uniform(random, 2));
  std::vector<float> out(gate.size());
  kernels->silu_multiply(gate.data(), up.data(), static_cast<uint32_t>(gate.size()), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double want = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
    EXPECT_NEAR(out[i], want, std::abs(want) * 5e-7 + 1e-35) << gate[i];
  }
  double want = 0;
  for (const float x : gate) want += std::exp(double{x} - 100);
  const auto count = static_cast<uint32_t>(gate.size());
  EXPECT_NEAR(kernels->sum_exp(gate.data(), count, 100, 1, nullptr), want, want * 1e-6);
  double tempered = 0;
  for (const float x : gate) tempered += std::exp((double{x} - 100) * 0.25);
  EXPECT_NEAR(kernels->sum_exp(gate.data(), count, 100, 0.25f, out.data()), tempered,
              tempered * 1e-6);
  for (size_t i = 0; i < gate.size(); ++i) {
    const double each = std::exp((double{gate[i]} - 100) * 0.25);
    EXPECT_NEAR(out[i], each, each * 1e-5);
  }
  gate[77] = NAN;
  EXPECT_TRUE(std::isnan(kernels->sum_exp(gate.data(), count, 100, 1, nullptr)));
}

TEST_P(CpuKernels, LargestOfAnyCount) {
  test::Random random(4);
  for (uint32_t count = 0; count < 70; ++count) {
    std::vector<float> x(count, -INFINITY);
    EXPECT_EQ(kernels->largest(x.data(), count), -INFINITY);
    for (uint32_t at = 0; at < count; ++at) {
      for (float& v : x) v = uniform(random, 1);
      x[(at + 1) % count] = NAN;
      x[at] = 2;
      EXPECT_EQ(kernels->largest(x.data(), count), 2) << at << " of " << count;
    }
  }
}

// An output has the same bits in a tile and alone.
TEST_P(CpuKernels, MultiplyDoesNotDependOnTheTile) {
  constexpr uint32_t kRows = 9, kOutputs = 11, kDepth = 208;
  test::Random random(5);
  std::vector<float> x(kRows * kDepth), w(12 * kDepth);
  for (float& v : x) v = uniform(random, 1);
  for (float& v : w) v = uniform(random, 1);
  std::vector<float> all(kRows * kOutputs);
  kernels->multiply(
      {x.data(), kDepth, kRows, w.data(), kOutputs, kDepth, nullptr, 0, all.data(), kOutputs});
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t i = 0; i < kOutputs; ++i) {
      std::vector<float> one_w(4 * kDepth, 0.0f);
      std::copy_n(w.data() + i * kDepth, kDepth, one_w.data());
      float one = 0;
      kernels->multiply(
          {x.data() + r * kDepth, kDepth, 1, one_w.data(), 1, kDepth, nullptr, 0, &one, 1});
      EXPECT_EQ(one, all[r * kOutputs + i]);
      double want = 0;
      for (uint32_t k = 0; k < kDepth; ++k) want += double{x[r * kDepth + k]} * w[i * kDepth + k];
      EXPECT_NEAR(one, want, 1e-5);
    }
  }
}

// Scores far below the maximum count as nothing, hidden ones even where they are NaN.
TEST_P(CpuKernels, SoftmaxTileHidesWhatIsHidden) {
  std::vector<float> scores(64, std::numeric_limits<float>::quiet_NaN());
  scores[3] = 1;
  scores[60] = 2;
  scores[61] = -200;
  SoftmaxState state = {-INFINITY, 0};
  const uint64_t visible = uint64_t{1} << 3 | uint64_t{1} << 60 | uint64_t{1} << 61;
  EXPECT_EQ(kernels->softmax_tile(scores.data(), 64, visible, state), 0);
  EXPECT_EQ(state.max, 2);
  EXPECT_NEAR(state.sum, 1 + std::exp(-1.0), 1e-6);
  for (uint32_t i = 0; i < 64; ++i) {
    const double want = i == 3 ? std::exp(-1.0) : i == 60 ? 1 : 0;
    EXPECT_NEAR(scores[i], want, 1e-7) << i;
  }
  std::vector<float> next(16, 5.0f);
  EXPECT_NEAR(kernels->softmax_tile(next.data(), 16, 2, state), std::exp(-3.0), 1e-8);
  EXPECT_NEAR(state.sum, 1 + (1 + std::exp(-1.0)) * std::exp(-3.0), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(All, CpuKernels, testing::ValuesIn(isas().begin(), isas().end()),
                         [](const auto& isa) { return std::string(isa.param.name); });

TEST(CpuIsa, NamesAreChecked) {
  EXPECT_STREQ(kernels_named("baseline").name, "baseline");
  EXPECT_TRUE(isas()[0].supported());
  try {
    kernels_named("sse9");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::not_found);
    EXPECT_NE(std::string(error.what()).find("baseline"), std::string::npos);
  }
}

}  // namespace
}  // namespace tessera::cpu
