#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/unit/kv/pool.hpp"

namespace tessera::kv::test {
namespace {

TEST(PagePool, HoldsAsManyBlocksAsFitTheBudget) {
  const auto backend = open_device("cpu", {});
  for (const uint32_t slots : {8u, 16u, 32u, 64u}) {
    for (const uint32_t groups : {1u, 3u}) {
      const uint64_t bytes = block_bytes_of(slots, groups);
      for (const uint64_t budget : {bytes, 2 * bytes - 1, 2 * bytes, 7 * bytes + 1}) {
        const PagePool pool(*backend, layout_of(slots, groups), budget);
        EXPECT_EQ(pool.block_bytes(), bytes);
        EXPECT_EQ(pool.total(), budget / bytes);
        EXPECT_EQ(pool.free(), pool.total());
        EXPECT_EQ(pool.used(), 0u);
        EXPECT_EQ(pool.page_slots(), slots);
      }
    }
  }
}

TEST(PagePool, ABudgetBelowOnePageIsCapacityWithNumbers) {
  const auto backend = open_device("cpu", {});
  const uint64_t bytes = block_bytes_of(32, 2);
  try {
    const PagePool pool(*backend, layout_of(32, 2), bytes - 1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::capacity);
    const std::string message = error.what();
    EXPECT_NE(message.find(std::to_string(bytes - 1)), std::string::npos) << message;
    EXPECT_NE(message.find(std::to_string(bytes)), std::string::npos) << message;
    EXPECT_NE(message.find("32 tokens"), std::string::npos) << message;
  }
}

TEST(PagePool, ALayoutWithoutGroupsIsRefused) {
  const auto backend = open_device("cpu", {});
  try {
    const PagePool pool(*backend, layout_of(16, 0), 1 << 20);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::invalid_argument);
  }
}

TEST(PagePool, BlocksForRoundsUp) {
  Pool pool(1, 8);
  for (const auto& [tokens, blocks] :
       {std::pair{0, 0}, {1, 1}, {7, 1}, {8, 1}, {9, 2}, {16, 2}, {17, 3}}) {
    EXPECT_EQ(pool->blocks_for(static_cast<uint64_t>(tokens)), static_cast<uint64_t>(blocks));
  }
}

TEST(PagePool, EveryBlockHasPagesOfItsOwnInEveryGroup) {
  constexpr uint32_t kGroups = 3;
  Pool pool(5, 16, kGroups);
  std::vector<BlockRef> blocks;
  std::set<uint32_t> pages[kGroups];
  while (BlockRef block = pool->try_allocate()) {
    for (uint32_t g = 0; g < kGroups; ++g) {
      EXPECT_LT(block->page(g), 5u);
      EXPECT_TRUE(pages[g].insert(block->page(g)).second) << "page handed out twice";
    }
    blocks.push_back(std::move(block));
  }
  EXPECT_EQ(blocks.size(), 5u);
  EXPECT_EQ(pool->free(), 0u);
  // What comes back is handed out again, and nothing else.
  const uint32_t page = blocks[2]->page(1);
  blocks.erase(blocks.begin() + 2);
  EXPECT_EQ(pool->free(), 1u);
  EXPECT_EQ(pool->try_allocate()->page(1), page);
}

TEST(PagePool, ABlockGoesBackWithItsLastReference) {
  Pool pool(2);
  BlockRef first = pool->try_allocate();
  BlockRef second = first;
  EXPECT_EQ(first.use_count(), 2);
  first.reset();
  EXPECT_EQ(pool->used(), 1u);
  second.reset();
  EXPECT_EQ(pool->used(), 0u);
}

TEST(PagePool, PeakIsTheMostEverUsed) {
  Pool pool(4);
  {
    const BlockRef a = pool->try_allocate(), b = pool->try_allocate(), c = pool->try_allocate();
    EXPECT_EQ(pool->peak(), 3u);
  }
  EXPECT_EQ(pool->used(), 0u);
  const BlockRef again = pool->try_allocate();
  EXPECT_EQ(pool->peak(), 3u);
}

TEST(PagePool, PagesBeginZeroedAndKeepWhatIsWritten) {
  Pool pool(2, 8, 2);
  const BlockRef a = pool->try_allocate(), b = pool->try_allocate();
  for (uint32_t g = 0; g < 2; ++g) {
    const uint64_t size = pool.backend->page_bytes(pool->layout(), g);
    std::vector<uint8_t> bytes(size, 1);
    pool->memory().read(g, a->page(g), bytes.data());
    EXPECT_EQ(bytes, std::vector<uint8_t>(size, 0));
    pool->memory().write(g, a->page(g), std::vector<uint8_t>(size, 7).data());
    pool->memory().read(g, b->page(g), bytes.data());
    EXPECT_EQ(bytes, std::vector<uint8_t>(size, 0)) << "a neighbour was written";
    pool->memory().read(g, a->page(g), bytes.data());
    EXPECT_EQ(bytes, std::vector<uint8_t>(size, 7));
  }
}

TEST(PagePool, HostPagesComeInTheOrderOfRead) {
  Pool pool(5, 8, 3);
  std::vector<BlockRef> blocks = blocks_of(pool, 3);
  std::swap(blocks[0], blocks[2]);
  const std::vector<std::span<uint8_t>> pages = pool->host_pages(blocks);
  ASSERT_EQ(pages.size(), 9u);
  for (size_t i = 0; i < pages.size(); ++i) {
    std::ranges::fill(pages[i], static_cast<uint8_t>(i + 1));
  }
  std::vector<uint8_t> bytes(pool->block_bytes());
  for (size_t b = 0; b < blocks.size(); ++b) {
    pool->read(*blocks[b], bytes.data());
    size_t at = 0;
    for (size_t g = 0; g < 3; ++g) {
      const std::span<uint8_t> page = pages[3 * b + g];
      EXPECT_TRUE(std::ranges::equal(page, std::span(bytes).subspan(at, page.size())));
      at += page.size();
    }
    EXPECT_EQ(at, bytes.size());
  }
}

}  // namespace
}  // namespace tessera::kv::test
