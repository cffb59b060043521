// The CPU's values of every weight type: bit for bit those of PyPI gguf (tests/data/dequantise) and
// of the plain decoder of the tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "backends/cpu/isa.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::cpu {
namespace {

std::vector<uint8_t> read_file(const std::string& name) {
  std::ifstream file(std::string(TESSERA_TEST_DATA) + "/dequantise/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

class CpuDequantise : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!GetParam().supported()) GTEST_SKIP() << "this machine does not run it";
  }

  void expect_bits(size_t type, const std::vector<uint8_t>& blocks, const void* want, size_t n) {
    std::vector<float> got(n + 1, 42.0f);
    GetParam().kernels().dequantise[type](blocks.data(), static_cast<uint32_t>(n), got.data());
    EXPECT_EQ(std::memcmp(got.data(), want, n * sizeof(float)), 0) << kDTypeInfo[type].name;
    EXPECT_EQ(got[n], 42.0f) << "written past the end";
  }
};

TEST_P(CpuDequantise, EqualsGguf) {
  for (size_t type = 0; type < kDTypeCount; ++type) {
    const std::string name = kDTypeInfo[type].name;
    const std::vector<uint8_t> want = read_file(name + ".f32");
    ASSERT_GE(want.size(), 256u);
    expect_bits(type, read_file(name + ".blocks"), want.data(), want.size() / sizeof(float));
  }
}

TEST_P(CpuDequantise, EqualsThePlainDecoder) {
  test::Random random(11);
  for (size_t type = 0; type < kDTypeCount; ++type) {
    std::vector<float> values(256 * 40);
    for (float& v : values) v = static_cast<float>(random.below(20001)) / 1000 - 10;
    const std::vector<uint8_t> blocks = test::quantise(static_cast<DType>(type), values);
    const std::vector<float> want =
        test::dequantise(static_cast<DType>(type), blocks.data(), values.size());
    expect_bits(type, blocks, want.data(), want.size());
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuDequantise, testing::ValuesIn(isas().begin(), isas().end()),
                         [](const auto& isa) { return std::string(isa.param.name); });

}  // namespace
}  // namespace tessera::cpu
