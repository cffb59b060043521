#include "runtime/kv/span.hpp"

#include <gtest/gtest.h>

#include "tests/unit/kv/pool.hpp"

namespace tessera::kv::test {
namespace {

uint64_t low_bits(uint32_t count) {
  return count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// The mask says just which slots below `slots` exist, whatever the steps in which they came.
void expect_all_valid(const Span& span, uint32_t page_slots) {
  ASSERT_EQ(span.masks.size(), span.blocks.size());
  for (uint32_t b = 0; b < span.blocks.size(); ++b) {
    const uint32_t first = b * page_slots;
    const uint32_t filled = span.slots <= first ? 0 : std::min(page_slots, span.slots - first);
    EXPECT_EQ(span.masks[b], low_bits(filled)) << "block " << b;
  }
}

TEST(Span, AppendTakesFullBlocksAndALastOne) {
  for (const uint32_t page_slots : {8u, 16u, 32u, 64u}) {
    for (const uint32_t rest : {1u, page_slots - 1, page_slots}) {
      Pool pool(3, page_slots);
      Span span;
      span.append(pool->try_allocate(), page_slots);
      span.append(pool->try_allocate(), page_slots);
      span.append(pool->try_allocate(), rest);
      EXPECT_EQ(span.slots, 2 * page_slots + rest);
      expect_all_valid(span, page_slots);
    }
  }
}

TEST(Span, ExtendCrossesBlocks) {
  for (const uint32_t page_slots : {8u, 16u, 32u, 64u}) {
    for (const uint32_t step : {1u, 3u, 7u, page_slots, page_slots + 1}) {
      Pool pool(4, page_slots);
      Span span;
      while (BlockRef block = pool->try_allocate()) span.append(std::move(block), 0);
      while (span.slots + step <= 4 * page_slots) {
        span.extend(step, page_slots);
        expect_all_valid(span, page_slots);
      }
    }
  }
}

TEST(Span, ShrinkGivesBlocksBack) {
  Pool pool(3, 64);
  Span span;
  span.append(pool->try_allocate(), 64);
  span.append(pool->try_allocate(), 64);
  span.append(pool->try_allocate(), 5);
  span.shrink(2, 128);
  EXPECT_EQ(pool->used(), 2u);
  expect_all_valid(span, 64);
  span.shrink(0, 0);
  EXPECT_EQ(pool->used(), 0u);
}

TEST(Span, ReserveMakesRoomForBoth) {
  Pool pool(3, 8);
  Span span;
  span.append(pool->try_allocate(), 8);
  span.reserve(2);
  const BlockRef* blocks = span.blocks.data();
  const uint64_t* masks = span.masks.data();
  span.append(pool->try_allocate(), 8);
  span.append(pool->try_allocate(), 2);
  EXPECT_EQ(span.blocks.data(), blocks);
  EXPECT_EQ(span.masks.data(), masks);
}

}  // namespace
}  // namespace tessera::kv::test
