// Packed weights of the CPU and their products with int8 and int16 rows: every packing, on every
// instruction set that this machine runs, against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backends/cpu/isa.hpp"
#include "backends/cpu/packing.hpp"
#include "backends/cpu/prepared_rows.hpp"
#include "tests/conformance/isa_test.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::cpu {
namespace {

constexpr DType kPackedTypes[] = {DType::f16,  DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0,
                                  DType::q5_1, DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k};
constexpr uint32_t kColumns = 512;

float uniform(test::Random& random, float scale) {
  return static_cast<float>((static_cast<double>(random.next() >> 11) * 0x1p-52 - 1) * scale);
}

// A group of up to 16 outputs: GGUF blocks, the packed form and what the blocks mean.
struct Group {
  Group(DType type, uint32_t outputs, uint64_t seed) : packing(*packing_of(type)) {
    test::Random random(seed);
    std::vector<float> exact(size_t{outputs} * kColumns);
    for (uint32_t o = 0; o < outputs; ++o) {
      // Different sizes and offsets in each output, so that a scale in the wrong place shows.
      const float scale = std::ldexp(1.0f, static_cast<int>(o % 5) - 2);
      const float offset = 0.1f * static_cast<float>(o) * scale;
      for (uint32_t k = 0; k < kColumns; ++k) {
        exact[size_t{o} * kColumns + k] = uniform(random, scale) + offset;
      }
    }
    const std::vector<uint8_t> blocks = test::quantise(type, exact);
    const uint64_t row = row_bytes(type, kColumns);
    packed.resize(packed_bytes(packing, outputs, kColumns));
    pack_group(type, blocks.data(), row, outputs, kColumns, packed.data());
    values.resize(exact.size());
    for (uint32_t o = 0; o < outputs; ++o) {
      kernels_named("baseline")
          .dequantise[static_cast<size_t>(type)](blocks.data() + o * row, kColumns,
                                                 values.data() + size_t{o} * kColumns);
    }
  }

  Packing packing;
  std::vector<uint8_t> packed;
  std::vector<float> values;  // [output][kColumns]
};

// By how much a packed value may differ from what it was, which is `values` of its block.
double packing_error(DType type, uint32_t output, const float* values) {
  switch (dtype_info(type).block_elements) {
    case 1: {  // half a step of 14-bit codes, and what fp32 rounds on the way
      float largest = 0;
      for (uint32_t k = 0; k < kBlock; ++k) largest = std::max(largest, std::abs(values[k]));
      return 0.502 * static_cast<double>(largest) / 8191;
    }
    case 32:
      return 0;
    default:  // scales of K-quants are products, which F16 rounds
      return 5e-3 * std::ldexp(1.0, static_cast<int>(output % 5) - 2);
  }
}

TEST(CpuPacking, KeepsWhatTheBlocksMean) {
  for (const DType type : kPackedTypes) {
    SCOPED_TRACE(dtype_info(type).name);
    for (const uint32_t outputs : {16u, 5u}) {
      const Group group(type, outputs, 11 + outputs);
      std::vector<float> row(kColumns);
      for (uint32_t o = 0; o < kGroupOutputs; ++o) {
        unpack_row(group.packing, group.packed.data(), o, kColumns, row.data());
        for (uint32_t k = 0; k < kColumns; ++k) {
          if (o >= outputs) {
            ASSERT_EQ(row[k], 0) << "output " << o << " element " << k;
            continue;
          }
          const float* want = group.values.data() + size_t{o} * kColumns + k;
          ASSERT_NEAR(row[k], *want, packing_error(type, o, want - k % kBlock))
              << "output " << o << " element " << k;
        }
      }
    }
  }
}

// One output of 16-bit floats, given by their bits, packed and unpacked.
std::vector<float> through_packing(DType type, const std::vector<uint16_t>& bits) {
  const auto columns = static_cast<uint32_t>(bits.size());
  std::vector<uint8_t> packed(packed_bytes(Packing::s14, 1, columns));
  pack_group(type, reinterpret_cast<const uint8_t*>(bits.data()), columns * 2, 1, columns,
             packed.data());
  std::vector<float> out(columns);
  unpack_row(Packing::s14, packed.data(), 0, columns, out.data());
  return out;
}

// Blocks of zeros, of the smallest and the largest values, and of one value beside zeros.
TEST(CpuPacking, HalvesOfEverySize) {
  for (const DType type : {DType::f16, DType::bf16}) {
    SCOPED_TRACE(dtype_info(type).name);
    const uint16_t infinity = type == DType::f16 ? 0x7c00 : 0x7f80;
    for (uint32_t size = 0; size < infinity; size += 37) {
      std::vector<uint16_t> bits(2 * kBlock);
      for (uint32_t k = 0; k < kBlock; ++k) {
        bits[k] = static_cast<uint16_t>((size - size * k / 64) | k % 2 << 15);
      }
      bits[kBlock + size % kBlock] = static_cast<uint16_t>(size | 0x8000);
      std::vector<float> want(bits.size());
      kernels_named("baseline")
          .dequantise[static_cast<size_t>(type)](reinterpret_cast<const uint8_t*>(bits.data()),
                                                 2 * kBlock, want.data());
      const std::vector<float> got = through_packing(type, bits);
      for (uint32_t k = 0; k < 2 * kBlock; ++k) {
        // What is below 2^-100 becomes zero.
        ASSERT_NEAR(got[k], want[k],
                    packing_error(type, 0, want.data() + k / kBlock * kBlock) + 8e-31)
            << "size " << size << " element " << k;
      }
    }
  }
}

TEST(CpuPacking, InfinitiesAndNansSpoilTheirBlockOnly) {
  for (const DType type : {DType::f16, DType::bf16}) {
    SCOPED_TRACE(dtype_info(type).name);
    const uint16_t infinity = type == DType::f16 ? 0x7c00 : 0x7f80;
    for (const uint16_t bad : {infinity, static_cast<uint16_t>(infinity | 0x8000),
                               static_cast<uint16_t>(infinity | 1), uint16_t{0xffff}}) {
      for (uint32_t at = 0; at < kBlock; ++at) {
        std::vector<uint16_t> bits(3 * kBlock, 0x3800);
        bits[kBlock + at] = bad;
        const std::vector<float> got = through_packing(type, bits);
        for (uint32_t k = 0; k < 3 * kBlock; ++k) {
          ASSERT_EQ(std::isfinite(got[k]), k / kBlock != 1) << "element " << k;
        }
      }
    }
  }
}

class CpuPacked : public IsaTest {};

// Rows [rows][kColumns] in the form the kernels read.
struct Rows {
  Rows(const Kernels& kernels, RowForm row_form, std::vector<float> x)
      : form(row_form), count(static_cast<uint32_t>(x.size() / kColumns)), values(std::move(x)) {
    const RowQuantiser quantiser(kernels, {form}, kColumns);
    memory.resize(quantiser.floats(count));
    prepared.x = {values.data(), kColumns, kColumns};
    quantiser.place(memory.data(), count, prepared);
    for (uint32_t r = 0; r < count; ++r) quantiser.write(prepared, r);
  }
  const QuantisedRows& quantised() const { return prepared.quantised(form); }
  const Int8Block& int8(uint32_t r, uint32_t block) const {
    return *reinterpret_cast<const Int8Block*>(quantised().at(r, block));
  }
  const Int16Block& int16(uint32_t r, uint32_t block) const {
    return *reinterpret_cast<const Int16Block*>(quantised().at(r, block));
  }
  int32_t code(uint32_t r, uint32_t k) const {
    const uint32_t b = k / kBlock, i = k % kBlock;
    return form == RowForm::int8 ? int8(r, b).q[i] : int16(r, b).q[i];
  }
  float scale(uint32_t r, uint32_t block) const {
    return form == RowForm::int8 ? int8(r, block).scale : int16(r, block).scale;
  }
  double at(uint32_t r, uint32_t k) const {
    return static_cast<double>(code(r, k)) * static_cast<double>(scale(r, k / kBlock));
  }

  RowForm form;
  uint32_t count;
  std::vector<float> values;
  std::vector<float> memory;
  PreparedRows prepared;
};

std::vector<float> random_rows(uint32_t rows, uint64_t seed) {
  test::Random random(seed);
  std::vector<float> x(size_t{rows} * kColumns);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = uniform(random, std::ldexp(1.0f, static_cast<int>(i / kBlock % 7) - 3));
  }
  return x;
}

// Rows with blocks of zeros, tiny and huge values.
std::vector<float> uneven_rows() {
  std::vector<float> x = random_rows(3, 5);
  for (uint32_t k = 32; k < 64; ++k) x[k] = 0;
  for (uint32_t k = 64; k < 96; ++k) x[k] = k % 2 ? -1e-30f : 0;
  for (uint32_t k = 96; k < 128; ++k) x[k] = k % 2 ? 1e30f : -3e29f;
  return x;
}

// Scales are the largest magnitude / max_code, codes the nearest.
void expect_nearest(const Rows& rows, int32_t max_code, double half_step) {
  for (uint32_t r = 0; r < rows.count; ++r) {
    for (uint32_t b = 0; b < kColumns / kBlock; ++b) {
      const float* from = rows.values.data() + size_t{r} * kColumns + b * kBlock;
      float largest = 0;
      for (uint32_t k = 0; k < kBlock; ++k) largest = std::max(largest, std::abs(from[k]));
      EXPECT_FLOAT_EQ(rows.scale(r, b), largest / static_cast<float>(max_code));
      for (uint32_t k = 0; k < kBlock; ++k) {
        EXPECT_LE(std::abs(rows.code(r, b * kBlock + k)), max_code);
        EXPECT_NEAR(rows.at(r, b * kBlock + k), from[k],
                    half_step * static_cast<double>(largest) / max_code);
      }
    }
  }
}

TEST_P(CpuPacked, QuantisesToTheNearestOf255) {
  const Rows rows(*kernels, RowForm::int8, uneven_rows());
  expect_nearest(rows, 127, 0.5001);
  for (uint32_t r = 0; r < rows.count; ++r) {
    for (uint32_t b = 0; b < kColumns / kBlock; ++b) {
      const Int8Block& block = rows.int8(r, b);
      int32_t sums[2] = {};
      for (uint32_t k = 0; k < kBlock; ++k) sums[k / 16] += rows.code(r, b * kBlock + k);
      EXPECT_EQ(block.from32[0], -32 * sums[0]);
      EXPECT_EQ(block.from32[1], -32 * sums[1]);
      EXPECT_EQ(block.from8, -8 * (sums[0] + sums[1]));
      EXPECT_EQ(block.from128, -128 * (sums[0] + sums[1]));
      EXPECT_FLOAT_EQ(block.sum, block.scale * static_cast<float>(sums[0] + sums[1]));
    }
  }
}

TEST_P(CpuPacked, QuantisesToTheNearestOf8191) {
  expect_nearest(Rows(*kernels, RowForm::int16, uneven_rows()), 4095, 0.502);
}

// Rows whose scale would be no number, and rows too small for one.
TEST_P(CpuPacked, RowsOfWhatCannotBeQuantised) {
  for (const RowForm form : {RowForm::int8, RowForm::int16}) {
    for (const float bad : {INFINITY, -INFINITY, NAN, -NAN}) {
      for (uint32_t at = 0; at < kBlock; ++at) {
        std::vector<float> x(kColumns, 1);
        x[kBlock + at] = bad;
        const Rows rows(*kernels, form, x);
        for (uint32_t b = 0; b < kColumns / kBlock; ++b) {
          ASSERT_EQ(std::isfinite(rows.scale(0, b)), b != 1);
          if (form == RowForm::int8) ASSERT_EQ(std::isfinite(rows.int8(0, b).sum), b != 1);
        }
        for (uint32_t k = kBlock; k < 2 * kBlock; ++k) ASSERT_EQ(rows.code(0, k), 0);
      }
    }
    for (const float tiny : {1e-45f, 1e-38f, 1e-32f}) {
      const Rows rows(*kernels, form, std::vector<float>(kColumns, tiny));
      for (uint32_t k = 0; k < kColumns; ++k) ASSERT_EQ(rows.at(0, k), 0);
      if (form == RowForm::int8) ASSERT_EQ(rows.int8(0, 0).sum, 0);
    }
  }
}

// The product of what the packed weights and the quantised rows mean, so that only the sums in fp32
// round; with fewer outputs than a group has, with and without something to add.
TEST_P(CpuPacked, MultiplyIsTheProductOfBothSides) {
  for (const DType type : kPackedTypes) {
    SCOPED_TRACE(dtype_info(type).name);
    for (const uint32_t outputs : {16u, 3u}) {
      const Group group(type, outputs, 23 + outputs);
      std::vector<float> weights(size_t{outputs} * kColumns);
      for (uint32_t o = 0; o < outputs; ++o) {
        unpack_row(group.packing, group.packed.data(), o, kColumns,
                   weights.data() + size_t{o} * kColumns);
      }
      for (const uint32_t count : {1u, 2u, 3u, 4u, 7u, 8u, 9u, 15u, 16u, 29u}) {
        const Rows rows(*kernels, row_form(group.packing), random_rows(count, count));
        std::vector<float> add(size_t{count} * 16), out(size_t{count} * 16, NAN);
        for (size_t i = 0; i < add.size(); ++i) add[i] = static_cast<float>(i) * 0.25f;
        const bool adds = count % 2 == 0;
        kernels->packed.multiply[static_cast<size_t>(group.packing)](
            {group.packed.data(), outputs, rows.quantised(), count, adds ? add.data() : nullptr, 16,
             out.data(), 16});
        for (uint32_t r = 0; r < count; ++r) {
          for (uint32_t o = 0; o < 16; ++o) {
            if (o >= outputs) {
              ASSERT_TRUE(std::isnan(out[r * 16 + o])) << "wrote past the outputs";
              continue;
            }
            double want = adds ? static_cast<double>(add[r * 16 + o]) : 0, size = std::abs(want);
            for (uint32_t k = 0; k < kColumns; ++k) {
              const double term =
                  static_cast<double>(weights[size_t{o} * kColumns + k]) * rows.at(r, k);
              want += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(out[r * 16 + o], want, 2e-6 * size + 1e-6)
                << count << " rows, row " << r << " output " << o;
          }
        }
      }
    }
  }
}

// Numeric contract 1.
TEST_P(CpuPacked, ARowHasTheSameBitsInEveryTile) {
  for (const DType type : kPackedTypes) {
    SCOPED_TRACE(dtype_info(type).name);
    const Group group(type, 16, 3);
    const RowForm form = row_form(group.packing);
    const std::vector<float> x = random_rows(37, 9);
    const auto multiply = kernels->packed.multiply[static_cast<size_t>(group.packing)];
    const auto compute = [&](const QuantisedRows& rows, uint32_t count, float* out) {
      multiply({group.packed.data(), 16, rows, count, nullptr, 0, out, 16});
    };
    std::vector<float> all(37 * 16), part(37 * 16);
    const Rows rows(*kernels, form, x);
    compute(rows.quantised(), 37, all.data());
    for (const uint32_t step : {1u, 2u, 3u, 5u, 8u, 16u, 31u}) {
      for (uint32_t first = 0; first < 37; first += step) {
        const uint32_t count = std::min(step, 37 - first);
        const auto from = x.begin() + first * kColumns;
        const Rows some(*kernels, form, {from, from + count * kColumns});
        compute(some.quantised(), count, part.data() + first * 16);
      }
      EXPECT_EQ(all, part) << "in rows of " << step;
    }
    for (uint32_t first = 0; first < 37; first += 2 * kPanelRows) {
      compute(rows.quantised().from(first), std::min(2 * kPanelRows, 37 - first),
              part.data() + first * 16);
    }
    EXPECT_EQ(all, part) << "in parts of the same rows";
    std::vector<float> fewer(37 * 16);
    compute(rows.quantised(), 29, fewer.data());
    EXPECT_TRUE(std::equal(fewer.begin(), fewer.begin() + 29 * 16, all.begin()));
  }
}

// Largest codes on both sides, all products of one sign: 32 * 8191 * 4095 is half of 2^31.
TEST_P(CpuPacked, LargestHalvesDoNotOverflow) {
  const std::vector<uint16_t> largest(size_t{16} * kColumns, 0x7bff);  // 65504
  std::vector<uint8_t> packed(packed_bytes(Packing::s14, 16, kColumns));
  pack_group(DType::f16, reinterpret_cast<const uint8_t*>(largest.data()), kColumns * 2, 16,
             kColumns, packed.data());
  for (const float x : {1e30f, -1e30f}) {
    for (const uint32_t count : {1u, 2u, 4u, 8u}) {
      const Rows rows(*kernels, RowForm::int16, std::vector<float>(size_t{count} * kColumns, x));
      std::vector<float> out(size_t{count} * 16);
      kernels->packed.multiply[static_cast<size_t>(Packing::s14)](
          {packed.data(), 16, rows.quantised(), count, nullptr, 0, out.data(), 16});
      const double want = 65504.0 * kColumns * static_cast<double>(x);
      for (const float got : out) ASSERT_NEAR(got, want, 1e-6 * std::abs(want));
    }
  }
}

// A weight that is no number shows in its output and in no other.
TEST_P(CpuPacked, InfinitiesAndNansAreNotLost) {
  for (const uint16_t bad : {0x7c00, 0xfc00, 0x7e00, 0x7c01}) {
    std::vector<uint16_t> halves(size_t{16} * kColumns, 0x3800);
    halves[5 * kColumns + 77] = bad;
    std::vector<uint8_t> packed(packed_bytes(Packing::s14, 16, kColumns));
    pack_group(DType::f16, reinterpret_cast<const uint8_t*>(halves.data()), kColumns * 2, 16,
               kColumns, packed.data());
    const Rows rows(*kernels, RowForm::int16, random_rows(3, 1));
    std::vector<float> out(3 * 16);
    kernels->packed.multiply[static_cast<size_t>(Packing::s14)](
        {packed.data(), 16, rows.quantised(), 3, nullptr, 0, out.data(), 16});
    for (uint32_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(std::isfinite(out[i]), i % 16 != 5) << "row " << i / 16 << " output " << i % 16;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuPacked, testing::ValuesIn(isas().begin(), isas().end()),
                         [](const auto& isa) { return std::string(isa.param.name); });

}  // namespace
}  // namespace tessera::cpu
