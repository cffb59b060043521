// The CPU's attention kernels on every instruction set that this machine runs: planes of every type
// and size against float64, and the same bits for a query in every block.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backends/cpu/isa.hpp"
#include "backends/cpu/pages.hpp"
#include "tests/conformance/isa_test.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::cpu {
namespace {

float uniform(test::Random& random, float scale) {
  return static_cast<float>((static_cast<double>(random.next() >> 11) * 0x1p-52 - 1) * scale);
}

// A tile of 64 slots over planes of `plane_slots`, each plane in memory of its own size, so that
// what reads past a plane is seen by a sanitizer.
struct Planes {
  Planes(KvType type, uint32_t head_dim, uint32_t plane_slots, const Kernels& kernels, bool keys)
      : head_dim(head_dim), exact(kTileSlots * head_dim) {
    test::Random random(head_dim * 100 + plane_slots);
    const size_t t = static_cast<size_t>(type);
    const auto store = keys ? kernels.store_key[t] : kernels.store_value[t];
    planes.resize(kTileSlots / plane_slots);
    for (std::vector<uint8_t>& plane : planes) {
      plane.resize(head_bytes(type, head_dim) * plane_slots);
    }
    std::vector<float> head(head_dim);
    for (uint32_t s = 0; s < kTileSlots; ++s) {
      for (float& x : head) x = uniform(random, std::ldexp(1.0f, static_cast<int>(s % 5) - 2));
      store(head.data(), head_dim, planes[s / plane_slots].data(), plane_slots, s % plane_slots);
      for (uint32_t d = 0; d < head_dim; ++d) exact[s * head_dim + d] = head[d];
    }
    tile.plane_slots = plane_slots;
    tile.groups = kTileGroups;
    for (uint32_t g = 0; g < kTileGroups; ++g) {
      tile.planes[g] = planes[g * kGroupSlots / plane_slots].data();
      tile.first[g] = g * kGroupSlots % plane_slots;
    }
  }
  double at(uint32_t slot, uint32_t d) const { return exact[slot * head_dim + d]; }

  uint32_t head_dim;
  std::vector<std::vector<uint8_t>> planes;
  KvTile tile = {};
  std::vector<float> exact;  // what was stored
};

struct Case {
  KvType type;
  uint32_t head_dim;
  uint32_t plane_slots;
  double error;  // of an element, as a share of the largest of its slot
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const uint32_t slots : {16u, 32u, 64u}) {
    for (const uint32_t dim : {64u, 20u, 96u, 128u, 7u}) {
      all.push_back({KvType::f32, dim, slots, 0});
      all.push_back({KvType::f16, dim, slots, 0x1p-11});
      if (dim % 32 == 0) all.push_back({KvType::q8_0, dim, slots, 0.51 / 127});
    }
  }
  return all;
}

std::string text(const Case& c) {
  return "type " + std::to_string(static_cast<int>(c.type)) + ", head_dim " +
         std::to_string(c.head_dim) + ", planes of " + std::to_string(c.plane_slots);
}

class CpuAttention : public IsaTest {};

constexpr uint32_t kQueries = 13;  // whole blocks of every kernel and a rest

TEST_P(CpuAttention, Scores) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(text(c));
    const Planes keys(c.type, c.head_dim, c.plane_slots, *kernels, true);
    test::Random random(4);
    std::vector<float> q(kQueries * c.head_dim);
    for (float& x : q) x = uniform(random, 1);
    for (uint32_t groups = 1; groups <= kTileGroups; ++groups) {
      std::vector<float> scores(kQueries * kTileSlots, NAN);
      KvTile tile = keys.tile;
      tile.groups = groups;
      const auto score = kernels->score[static_cast<size_t>(c.type)];
      score({q.data(), c.head_dim, kQueries, c.head_dim, tile, scores.data()});
      for (uint32_t i = 0; i < kQueries; ++i) {
        std::vector<float> alone(kTileSlots, NAN);
        score({q.data() + i * c.head_dim, c.head_dim, 1, c.head_dim, tile, alone.data()});
        for (uint32_t s = 0; s < groups * kGroupSlots; ++s) {
          double want = 0, size = 0;
          for (uint32_t d = 0; d < c.head_dim; ++d) {
            want += static_cast<double>(q[i * c.head_dim + d]) * keys.at(s, d);
            size += std::abs(static_cast<double>(q[i * c.head_dim + d]));
          }
          const double largest = std::ldexp(1.0, static_cast<int>(s % 5) - 2);
          ASSERT_NEAR(scores[i * kTileSlots + s], want, size * largest * (c.error + 1e-6)) << s;
          ASSERT_EQ(scores[i * kTileSlots + s], alone[s]) << "query " << i << " slot " << s;
        }
      }
    }
  }
}

TEST_P(CpuAttention, LoadedKeysAreTheStoredOnes) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(text(c));
    const Planes keys(c.type, c.head_dim, c.plane_slots, *kernels, true);
    std::vector<float> out(c.head_dim * kTileSlots);
    kernels->load_keys[static_cast<size_t>(c.type)](keys.tile, c.head_dim, out.data());
    for (uint32_t s = 0; s < kTileSlots; ++s) {
      const double largest = std::ldexp(1.0, static_cast<int>(s % 5) - 2);
      for (uint32_t d = 0; d < c.head_dim; ++d) {
        ASSERT_NEAR(out[d * kTileSlots + s], keys.at(s, d), largest * c.error) << s << ", " << d;
      }
    }
  }
}

TEST_P(CpuAttention, WeighedValues) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(text(c));
    const Planes values(c.type, c.head_dim, c.plane_slots, *kernels, false);
    const uint32_t padded = (c.head_dim + kLanes - 1) / kLanes * kLanes;
    test::Random random(6);
    std::vector<float> weights(kQueries * kTileSlots), rescale(kQueries);
    for (float& x : weights) x = std::abs(uniform(random, 1));
    for (float& x : rescale) x = std::abs(uniform(random, 1));
    for (const uint64_t wanted : {~uint64_t{0}, uint64_t{0x8000000080010001}, uint64_t{0x1ff}}) {
      std::vector<float> before(kQueries * padded), sum;
      for (float& x : before) x = uniform(random, 3);
      sum = before;
      const auto weigh = kernels->weigh[static_cast<size_t>(c.type)];
      weigh({weights.data(), rescale.data(), kQueries, c.head_dim, values.tile, wanted, sum.data(),
             padded});
      for (uint32_t i = 0; i < kQueries; ++i) {
        std::vector<float> alone(before.begin() + i * padded, before.begin() + (i + 1) * padded);
        weigh({weights.data() + i * kTileSlots, rescale.data() + i, 1, c.head_dim, values.tile,
               wanted, alone.data(), padded});
        for (uint32_t d = 0; d < c.head_dim; ++d) {
          double want =
              static_cast<double>(before[i * padded + d]) * static_cast<double>(rescale[i]);
          double size = 3;
          for (uint32_t s = 0; s < kTileSlots; ++s) {
            if (!(wanted >> s & 1)) continue;
            const double weight = weights[i * kTileSlots + s];
            want += weight * values.at(s, d);
            size += weight * std::ldexp(1.0, static_cast<int>(s % 5) - 2);
          }
          ASSERT_NEAR(sum[i * padded + d], want, size * (c.error + 1e-6));
          ASSERT_EQ(sum[i * padded + d], alone[d]) << "query " << i << " dimension " << d;
        }
      }
    }
  }
}

// Two parts merged are the softmax of both; an empty one changes nothing.
TEST_P(CpuAttention, MergeIsTheSoftmaxOfBoth) {
  SoftmaxState total = {-INFINITY, 0};
  std::vector<float> sum(16, 0.0f), part(16);
  for (uint32_t i = 0; i < 16; ++i) part[i] = static_cast<float>(i);
  const SoftmaxState empty = total;
  kernels->merge(total, sum.data(), empty, part.data(), 16);
  EXPECT_EQ(sum, std::vector<float>(16, 0.0f));
  kernels->merge(total, sum.data(), {2, 3}, part.data(), 16);
  EXPECT_EQ(total.max, 2);
  EXPECT_EQ(total.sum, 3);
  EXPECT_EQ(sum, part);
  kernels->merge(total, sum.data(), {5, 1}, part.data(), 16);
  EXPECT_EQ(total.max, 5);
  EXPECT_NEAR(total.sum, 1 + 3 * std::exp(-3.0), 1e-6);
  for (uint32_t i = 0; i < 16; ++i) EXPECT_NEAR(sum[i], i * (1 + std::exp(-3.0)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, CpuAttention, testing::ValuesIn(isas().begin(), isas().end()),
                         [](const auto& isa) { return std::string(isa.param.name); });

}  // namespace
}  // namespace tessera::cpu
