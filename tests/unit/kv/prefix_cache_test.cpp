#include "runtime/kv/prefix_cache.hpp"

#include <gtest/gtest.h>

#include "tests/unit/kv/pool.hpp"

namespace tessera::kv::test {
namespace {

using Tokens = std::vector<int32_t>;

PrefixKey text_key(PrefixNode* parent, const Tokens& tokens, PrefixKind kind = PrefixKind::text) {
  return {parent, kind, 0, 0, tokens};
}

PrefixKey shared_key(PrefixNode* parent, uint64_t canonical) {
  return {parent, PrefixKind::shared, canonical, {}};
}

TEST(PrefixCache, FindsWhatWasInserted) {
  Pool pool(4);
  PrefixCache cache;
  const Tokens a = {1, 2, 3}, b = {1, 2};
  EXPECT_EQ(cache.find(text_key(nullptr, a), 1), nullptr);
  PrefixNode* first = cache.insert(text_key(nullptr, a), pool->try_allocate(), 1);
  PrefixNode* behind = cache.insert(text_key(first, a), pool->try_allocate(), 2);
  EXPECT_EQ(cache.find(text_key(nullptr, a), 3), first);
  EXPECT_EQ(cache.find(text_key(first, a), 4), behind) << "the parent counts";
  EXPECT_EQ(cache.find(text_key(nullptr, b), 5), nullptr) << "fewer tokens are another block";
  EXPECT_EQ(first->last_use, 3u);
  EXPECT_EQ(behind->last_use, 4u);
  EXPECT_EQ(cache.size(), 2u);
}

// The same tokens with other keys: frame 0, the frame of a chunk that begins here, and that of one
// that began before.
TEST(PrefixCache, KindsAndTheBeginningOfChunksAreDistinct) {
  Pool pool(4);
  PrefixCache cache;
  const Tokens tokens = {4, 4, 4};
  const PrefixKind kinds[] = {PrefixKind::text, PrefixKind::chunk_first, PrefixKind::chunk_next};
  std::vector<PrefixNode*> nodes;
  for (const PrefixKind kind : kinds) {
    EXPECT_EQ(cache.find(text_key(nullptr, tokens, kind), 1), nullptr);
    nodes.push_back(cache.insert(text_key(nullptr, tokens, kind), pool->try_allocate(), 1));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_EQ(cache.find(text_key(nullptr, tokens, kinds[i]), 2), nodes[i]);
  }
}

TEST(PrefixCache, SharedTextsGoByTheirSerial) {
  PrefixCache cache;
  PrefixNode* seven = cache.insert(shared_key(nullptr, 7), nullptr, 1);
  EXPECT_EQ(cache.find(shared_key(nullptr, 8), 1), nullptr);
  EXPECT_EQ(cache.find(shared_key(nullptr, 7), 1), seven);
  EXPECT_EQ(cache.find(shared_key(seven, 7), 1), nullptr) << "the same text twice";
}

// The hash is XXH3 of the tokens, seeded with parent * golden + kind + 8 * canonical, so two keys
// of 8 parents' distance with canonical serials that differ by `golden` collide in all 64 bits.
TEST(PrefixCache, ACollisionIsFoundByTheKey) {
  constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
  PrefixCache cache;
  std::vector<PrefixNode*> parents;
  for (uint64_t i = 1; i <= 9; ++i) parents.push_back(cache.insert(shared_key(nullptr, i), {}, i));
  ASSERT_EQ(parents[8]->serial, parents[0]->serial + 8);
  PrefixNode* a = cache.insert(shared_key(parents[8], 100), {}, 10);
  const PrefixKey other = shared_key(parents[0], 100 + kGolden);
  EXPECT_EQ(cache.find(other, 11), nullptr);
  PrefixNode* b = cache.insert(other, {}, 12);
  ASSERT_EQ(a->hash, b->hash) << "the hash has changed: make a collision for the new one";
  EXPECT_EQ(cache.find(shared_key(parents[8], 100), 13), a);
  EXPECT_EQ(cache.find(other, 14), b);
  cache.erase(*a);
  EXPECT_EQ(cache.find(other, 15), b);
  EXPECT_EQ(cache.find(shared_key(parents[8], 100), 16), nullptr);
}

// Runs go from their ends, the longest unused first: what is left is always a whole beginning.
TEST(PrefixCache, EvictsTheLongestUnusedEndFirst) {
  Pool pool(8);
  PrefixCache cache;
  const Tokens tokens = {1};
  PrefixNode* root = cache.insert(text_key(nullptr, tokens), pool->try_allocate(), 1);
  PrefixNode* old1 = cache.insert(shared_key(root, 1), nullptr, 2);
  PrefixNode* old2 = cache.insert(text_key(old1, tokens), pool->try_allocate(), 3);
  PrefixNode* new1 = cache.insert(shared_key(root, 2), nullptr, 4);
  PrefixNode* new2 = cache.insert(text_key(new1, tokens), pool->try_allocate(), 5);
  const uint64_t order[] = {old2->serial, old1->serial, new2->serial, new1->serial, root->serial};
  cache.find(text_key(old1, tokens), 6);  // used again: now the other end is older
  const uint64_t changed[] = {order[2], order[3], order[0], order[1], order[4]};
  EXPECT_EQ(cache.evictable_blocks(), 3u);
  for (const uint64_t serial : changed) {
    const PrefixNode* node = cache.oldest_evictable();
    ASSERT_NE(node, nullptr);
    EXPECT_EQ(node->serial, serial);
    cache.erase(*node);
  }
  EXPECT_EQ(cache.oldest_evictable(), nullptr);
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(pool->used(), 0u);
}

TEST(PrefixCache, WhatASessionUsesStays) {
  Pool pool(2);
  PrefixCache cache;
  const Tokens tokens = {1};
  BlockRef in_use = pool->try_allocate();
  PrefixNode* node = cache.insert(text_key(nullptr, tokens), in_use, 1);
  PrefixNode* leaf = cache.insert(shared_key(node, 3), nullptr, 2);
  ++leaf->holders;  // a session stands on it
  EXPECT_EQ(cache.evictable_blocks(), 0u);
  EXPECT_EQ(cache.oldest_evictable(), nullptr);
  --leaf->holders;
  EXPECT_EQ(cache.oldest_evictable(), leaf);
  cache.erase(*leaf);
  EXPECT_EQ(cache.oldest_evictable(), nullptr) << "its block is in use";
  in_use.reset();
  EXPECT_EQ(cache.oldest_evictable(), node);
  EXPECT_EQ(cache.evictable_blocks(), 1u);
}

TEST(PrefixCache, SerialsAreNeverUsedTwice) {
  PrefixCache cache;
  uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const PrefixNode* node = cache.insert(shared_key(nullptr, 1), nullptr, 1);
    EXPECT_GT(node->serial, last);
    last = node->serial;
    cache.erase(*node);
  }
}

}  // namespace
}  // namespace tessera::kv::test
