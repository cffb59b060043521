// The CPU backend's memory: values that share buffers, lazy commitment, sizes that overflow.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "backends/cpu/arena.hpp"
#include "backends/cpu/host_memory.hpp"
#include "backends/cpu/pages.hpp"
#include "backends/cpu/rope.hpp"
#include "backends/cpu/values.hpp"

namespace tessera::cpu {
namespace {

Status status_of(void (*act)()) {
  try {
    act();
  } catch (const Error& error) {
    return error.status();
  }
  return Status::ok;
}

// Resident bytes of this process.
uint64_t resident() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0, pages = 0;
  file >> size >> pages;
  return pages * 4096;
}

TEST(CpuMemory, PagesCostNothingUntilTheyAreUsed) {
  const KvLayout layout = {KvType::f16, 16, {{{0, 1}, 4, 64, 0}}};
  const uint64_t before = resident();
  const CpuPages pages(layout, std::vector<uint32_t>{4096});  // 128 MiB
  EXPECT_LT(resident(), before + (4 << 20));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(pages.page(0, 0)) % 64, 0u);
}

TEST(CpuMemory, WhatDoesNotFitIsAnError) {
  EXPECT_EQ(status_of([] { HostMemory(uint64_t{1} << 62, "test"); }), Status::out_of_host_memory);
  EXPECT_EQ(status_of([] {
              const KvLayout layout = {KvType::f32, 64, {{{0}, UINT32_MAX, UINT32_MAX, 0}}};
              page_bytes(layout, 0);
            }),
            Status::out_of_host_memory);
  EXPECT_EQ(status_of([] {
              const KvLayout layout = {KvType::f32, 64, {{{0}, 1 << 10, 1 << 20, 0}}};
              CpuPages(layout, std::vector<uint32_t>{UINT32_MAX});
            }),
            Status::out_of_host_memory);
}

TEST(CpuMemory, AnArenaGivesSlicesThatOutliveIt) {
  std::vector<Arena::Slice> slices;
  {
    Arena arena;
    for (uint32_t i = 0; i < 100; ++i) {
      // Small ones share a region; the 40 MiB one has its own.
      const uint64_t bytes = i == 50 ? uint64_t{40} << 20 : 1000 * (i + 1) + 7;
      slices.push_back(arena.allocate(bytes, "test"));
      const Arena::Slice& slice = slices.back();
      ASSERT_EQ(reinterpret_cast<uintptr_t>(slice.data) % 64, 0u);
      ASSERT_EQ(slice.bytes, bytes);
      ASSERT_EQ(std::count(slice.data, slice.data + bytes, 0), static_cast<int64_t>(bytes));
      std::memset(slice.data, static_cast<int>(i + 1), bytes);
    }
    EXPECT_EQ(slices[0].region, slices[49].region);
    EXPECT_NE(slices[0].region, slices[50].region);
  }
  for (uint32_t i = 0; i < 100; ++i) {
    const Arena::Slice& slice = slices[i];
    ASSERT_EQ(std::count(slice.data, slice.data + slice.bytes, i + 1),
              static_cast<int64_t>(slice.bytes));
  }
}

TEST(CpuMemory, AnArenaLetsGoOfWhatNobodyHas) {
  Arena arena;
  const uint64_t before = resident();
  {
    const Arena::Slice slice = arena.allocate(24 << 20, "test");
    std::memset(slice.data, 1, slice.bytes);
    EXPECT_GT(resident(), before + (20 << 20));
  }
  EXPECT_LT(resident(), before + (4 << 20));
  EXPECT_EQ(arena.allocate(100, "test").data[0], 0);
  EXPECT_EQ(status_of([] { Arena().allocate(UINT64_MAX - 10, "test"); }),
            Status::out_of_host_memory);
}

TEST(CpuMemory, ValuesShareBuffersWhenTheirLivesDoNotOverlap) {
  Graph graph;
  graph.vocabulary = 10;
  const Value x = graph.add_value(100), a = graph.add_value(50), b = graph.add_value(100);
  const Value c = graph.add_value(50), d = graph.add_value(100), unused = graph.add_value(7);
  graph.ops = {Embed{nullptr, 1, x},
               NormGatedFfn{x, nullptr, nullptr, nullptr, 1, Activation::silu, a},
               LinearResidual{a, nullptr, x, b},
               NormGatedFfn{b, nullptr, nullptr, nullptr, 1, Activation::silu, c},
               LinearResidual{c, nullptr, b, d},
               Logits{d, nullptr, nullptr, 1}};
  const Values values(graph, 3);
  EXPECT_EQ(values[x].data, values[d].data);
  EXPECT_EQ(values[a].data, values[c].data);
  EXPECT_NE(values[x].data, values[b].data);
  EXPECT_NE(values[b].data, values[d].data);
  EXPECT_EQ(values[x].stride, 112u);
  EXPECT_EQ(values[unused].data, nullptr);
}

TEST(CpuRope, AnglesAreThoseOfFloat64) {
  Rope rope;
  for (int i = 0; i < 32; ++i) rope.frequencies.push_back(std::pow(10000.0, -i / 32.0));
  rope.magnitude = 1.25;
  RopeTable table(rope);
  std::vector<float> out(64);
  for (const int64_t position :
       {int64_t{0}, int64_t{1}, int64_t{255}, int64_t{256}, int64_t{-1}, int64_t{-300},
        int64_t{4097}, int64_t{1000003}, int64_t{INT32_MAX}, int64_t{INT32_MAX} * 2}) {
    table.fill(position, out.data());
    for (size_t i = 0; i < 32; ++i) {
      const double angle = static_cast<double>(position) * rope.frequencies[i];
      // The product's own rounding, 2^-53 of the angle, decides far from the origin.
      const double error = 8e-8 + std::abs(angle) * 4e-16;
      EXPECT_NEAR(out[i], std::cos(angle) * 1.25, error) << position << " pair " << i;
      EXPECT_NEAR(out[32 + i], std::sin(angle) * 1.25, error) << position << " pair " << i;
    }
  }
}

}  // namespace
}  // namespace tessera::cpu
