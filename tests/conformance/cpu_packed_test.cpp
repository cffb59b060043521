// Packed weights and int8 products of the CPU: every packing, on every instruction set that this
// machine runs, against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backends/cpu/isa.hpp"
#include "backends/cpu/packing.hpp"
#include "backends/cpu/prepared_rows.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::cpu {
namespace {

constexpr DType kPackedTypes[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                  DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k};
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

TEST(CpuPacking, KeepsWhatTheBlocksMean) {
  for (const DType type : kPackedTypes) {
    SCOPED_TRACE(dtype_info(type).name);
    for (const uint32_t outputs : {16u, 5u}) {
      const Group group(type, outputs, 11 + outputs);
      // Scales of K-quants are products, which F16 rounds.
      const bool exact = dtype_info(type).block_elements == 32;
      std::vector<float> row(kColumns);
      for (uint32_t o = 0; o < kGroupOutputs; ++o) {
        unpack_row(group.packing, group.packed.data(), o, kColumns, row.data());
        for (uint32_t k = 0; k < kColumns; ++k) {
          const float want = o < outputs ? group.values[size_t{o} * kColumns + k] : 0.0f;
          if (exact) {
            ASSERT_EQ(row[k], want) << "output " << o << " element " << k;
          } else {
            ASSERT_NEAR(row[k], want, 5e-3 * std::ldexp(1.0, static_cast<int>(o % 5) - 2));
          }
        }
      }
    }
  }
}

class CpuPacked : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!GetParam().supported()) GTEST_SKIP() << "this machine does not run it";
    kernels = &GetParam().kernels();
  }
  const Kernels* kernels = nullptr;
};

// Rows [rows][kColumns] in the form the kernels read.
struct Rows {
  Rows(const Kernels& kernels, const std::vector<float>& x)
      : count(static_cast<uint32_t>(x.size() / kColumns)),
        buffer(count, kColumns),
        memory(buffer.floats()),
        rows(buffer.place(memory.data())) {
    for (uint32_t r = 0; r < count; ++r) {
      QuantisedBuffer::write(kernels, x.data() + size_t{r} * kColumns, kColumns, rows, r);
    }
  }
  double at(uint32_t r, uint32_t k) const {
    return static_cast<double>(rows.q[r * rows.q_stride + k]) *
           static_cast<double>(rows.scale[r * rows.block_stride + k / kBlock]);
  }

  uint32_t count;
  QuantisedBuffer buffer;
  std::vector<float> memory;
  QuantisedRows rows;
};

std::vector<float> random_rows(uint32_t rows, uint64_t seed) {
  test::Random random(seed);
  std::vector<float> x(size_t{rows} * kColumns);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = uniform(random, std::ldexp(1.0f, static_cast<int>(i / kBlock % 7) - 3));
  }
  return x;
}

TEST_P(CpuPacked, QuantisesToTheNearestOf255) {
  std::vector<float> x = random_rows(3, 5);
  for (uint32_t k = 32; k < 64; ++k) x[k] = 0;                        // a block of zeros
  for (uint32_t k = 64; k < 96; ++k) x[k] = k % 2 ? -1e-30f : 0;      // tiny
  for (uint32_t k = 96; k < 128; ++k) x[k] = k % 2 ? 1e30f : -3e29f;  // huge
  const Rows rows(*kernels, x);
  for (uint32_t r = 0; r < 3; ++r) {
    for (uint32_t b = 0; b < kColumns / kBlock; ++b) {
      const float* from = x.data() + size_t{r} * kColumns + b * kBlock;
      const size_t at = r * rows.rows.block_stride + b;
      float largest = 0;
      for (uint32_t k = 0; k < kBlock; ++k) largest = std::max(largest, std::abs(from[k]));
      EXPECT_FLOAT_EQ(rows.rows.scale[at], largest / 127);
      int32_t sums[2] = {};
      for (uint32_t k = 0; k < kBlock; ++k) {
        const int32_t q = rows.rows.q[r * rows.rows.q_stride + b * kBlock + k];
        EXPECT_LE(std::abs(q), 127);
        EXPECT_NEAR(rows.at(r, b * kBlock + k), from[k], 0.5001 * largest / 127);
        sums[k / 16] += q;
      }
      EXPECT_EQ(rows.rows.count[2 * at], sums[0]);
      EXPECT_EQ(rows.rows.count[2 * at + 1], sums[1]);
      EXPECT_FLOAT_EQ(rows.rows.sum[at],
                      rows.rows.scale[at] * static_cast<float>(sums[0] + sums[1]));
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
        const Rows rows(*kernels, random_rows(count, count));
        std::vector<float> add(size_t{count} * 16), out(size_t{count} * 16, NAN);
        for (size_t i = 0; i < add.size(); ++i) add[i] = static_cast<float>(i) * 0.25f;
        const bool adds = count % 2 == 0;
        kernels->packed.multiply[static_cast<size_t>(group.packing)](
            {group.packed.data(), kColumns / kBlock, outputs, rows.rows, count,
             adds ? add.data() : nullptr, 16, out.data(), 16});
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
    const Rows rows(*kernels, random_rows(37, 9));
    const auto multiply = kernels->packed.multiply[static_cast<size_t>(group.packing)];
    const auto compute = [&](uint32_t first, uint32_t count, float* out) {
      QuantisedRows part = rows.rows;
      part.q += first * part.q_stride;
      part.scale += first * part.block_stride;
      part.sum += first * part.block_stride;
      part.count += first * 2 * part.block_stride;
      multiply({group.packed.data(), kColumns / kBlock, 16, part, count, nullptr, 0, out, 16});
    };
    std::vector<float> all(37 * 16), part(37 * 16);
    compute(0, 37, all.data());
    for (const uint32_t step : {1u, 2u, 3u, 5u, 8u, 16u, 31u}) {
      for (uint32_t first = 0; first < 37; first += step) {
        compute(first, std::min(step, 37 - first), part.data() + first * 16);
      }
      EXPECT_EQ(all, part) << "in steps of " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuPacked, testing::ValuesIn(isas().begin(), isas().end()),
                         [](const auto& isa) { return std::string(isa.param.name); });

}  // namespace
}  // namespace tessera::cpu
