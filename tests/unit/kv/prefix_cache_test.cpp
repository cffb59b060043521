#include "runtime/kv/prefix_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/fuzz/random.hpp"
#include "tests/unit/kv/pool.hpp"
#include "tests/unit/kv/weak_hashes.hpp"

namespace tessera::kv::test {
namespace {

using Tokens = std::vector<int32_t>;

struct Cache : ValueRule, PrefixCache {
  explicit Cache(Work work = {1, 0}) : ValueRule(work), PrefixCache(rule()) {}
  ValueRule& rule() { return *this; }
};

PrefixKey text_key(PrefixNode* parent, const Tokens& tokens, PrefixKind kind = PrefixKind::text) {
  PrefixKey key;
  key.parent = parent;
  key.kind = kind;
  key.tokens = tokens;
  return key;
}

PrefixKey shared_key(PrefixNode* parent, uint64_t canonical, uint64_t length = 4) {
  PrefixKey key;
  key.parent = parent;
  key.kind = PrefixKind::shared;
  key.canonical = canonical;
  key.length = length;
  return key;
}

TEST(PrefixCache, FindsWhatWasInserted) {
  Pool pool(4);
  Cache cache;
  const Tokens a = {1, 2, 3}, b = {1, 2};
  EXPECT_EQ(cache.find(text_key(nullptr, a)), nullptr);
  PrefixNode* first = cache.insert(text_key(nullptr, a), pool->try_allocate());
  PrefixNode* behind = cache.insert(text_key(first, a), pool->try_allocate());
  EXPECT_EQ(cache.find(text_key(nullptr, a)), first);
  EXPECT_EQ(cache.find(text_key(first, a)), behind) << "the parent counts";
  EXPECT_EQ(cache.find(text_key(nullptr, b)), nullptr) << "fewer tokens are another block";
  EXPECT_EQ(cache.size(), 2u);
}

// The same tokens with other keys: frame 0, the frame of a chunk that begins here, and that of one
// that began before.
TEST(PrefixCache, KindsAndTheBeginningOfChunksAreDistinct) {
  Pool pool(4);
  Cache cache;
  const Tokens tokens = {4, 4, 4};
  const PrefixKind kinds[] = {PrefixKind::text, PrefixKind::chunk_first, PrefixKind::chunk_next};
  std::vector<PrefixNode*> nodes;
  for (const PrefixKind kind : kinds) {
    EXPECT_EQ(cache.find(text_key(nullptr, tokens, kind)), nullptr);
    nodes.push_back(cache.insert(text_key(nullptr, tokens, kind), pool->try_allocate()));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_EQ(cache.find(text_key(nullptr, tokens, kinds[i])), nodes[i]);
  }
}

TEST(PrefixCache, SharedTextsGoByTheirSerial) {
  Cache cache;
  PrefixNode* seven = cache.insert(shared_key(nullptr, 7), nullptr);
  cache.hold(*seven);
  EXPECT_EQ(cache.find(shared_key(nullptr, 8)), nullptr);
  EXPECT_EQ(cache.find(shared_key(nullptr, 7)), seven);
  EXPECT_EQ(cache.find(shared_key(seven, 7)), nullptr) << "the same text twice";
}

// Hashes only find: with one hash for all keys each still has its own node.
TEST(PrefixCache, WithoutAnyHash) {
  const WeakHashes weak;
  Pool pool(64);
  Cache cache;
  std::vector<PrefixNode*> nodes = {nullptr};
  std::vector<PrefixKey> keys = {{}};
  const Tokens texts[] = {{1}, {2}, {1, 2}};
  for (size_t i = 0; nodes.size() < 60; ++i) {
    for (const Tokens& text : texts) {
      for (const PrefixKind kind : {PrefixKind::text, PrefixKind::chunk_first}) {
        keys.push_back(text_key(nodes[i], text, kind));
        EXPECT_EQ(cache.find(keys.back()), nullptr);
        nodes.push_back(cache.insert(keys.back(), pool->try_allocate()));
        EXPECT_EQ(nodes.back()->hash, nodes[1]->hash);
      }
    }
  }
  for (size_t i = 1; i < nodes.size(); ++i) EXPECT_EQ(cache.find(keys[i]), nodes[i]);
  PrefixNode* gone = cache.cheapest();
  const size_t place = static_cast<size_t>(std::ranges::find(nodes, gone) - nodes.begin());
  cache.evict(*gone);
  for (size_t i = 1; i < nodes.size(); ++i) {
    EXPECT_EQ(cache.find(keys[i]), i == place ? nullptr : nodes[i]);
  }
}

// Runs go from their ends, the longest unused first: what is left is always a whole beginning.
TEST(PrefixCache, EvictsTheLongestUnusedEndFirst) {
  Pool pool(8);
  Cache cache;
  const Tokens tokens = {1};
  std::vector<BlockRef> in_use = blocks_of(pool, 3);
  PrefixNode* root = cache.insert(text_key(nullptr, tokens), in_use[0]);
  PrefixNode* old1 = cache.insert(shared_key(root, 1), nullptr);
  PrefixNode* old2 = cache.insert(text_key(old1, tokens), in_use[1]);
  PrefixNode* new1 = cache.insert(shared_key(root, 2), nullptr);
  PrefixNode* new2 = cache.insert(text_key(new1, tokens), in_use[2]);
  EXPECT_EQ(cache.evictable_blocks(), 0u);
  in_use[2].reset();  // the end that came first is used longest
  in_use[1].reset();
  in_use[0].reset();
  EXPECT_EQ(cache.evictable_blocks(), 3u);
  EXPECT_EQ(cache.size(), 5u);
  ASSERT_EQ(cache.cheapest(), new2);
  cache.evict(*new2);
  EXPECT_EQ(cache.size(), 3u) << "the shared text before it as well";
  ASSERT_EQ(cache.cheapest(), old2) << "the root stands before it";
  cache.evict(*old2);
  ASSERT_EQ(cache.cheapest(), root);
  cache.evict(*root);
  EXPECT_EQ(cache.cheapest(), nullptr);
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(pool->used(), 0u);
}

// A page deep in a prompt is dearer than one at its beginning, and what prompts took again is worth
// more; what stands before both goes last.
TEST(PrefixCache, TheCheapestEndGoesFirst) {
  Pool pool(8);
  Cache cache({10, 1});
  const Tokens a = {1, 2}, b = {1, 3}, c = {1, 4};
  PrefixNode* root = cache.insert(text_key(nullptr, a), pool->try_allocate());
  PrefixNode* chunk = cache.insert(shared_key(root, 9, 5000), nullptr);
  PrefixNode* deep = cache.insert(text_key(chunk, a), pool->try_allocate());
  EXPECT_EQ(deep->end, 5004u);
  EXPECT_GT(deep->cost, 100 * root->cost);
  PrefixNode* cheap = cache.insert(text_key(root, b), pool->try_allocate());
  BlockRef in_use = pool->try_allocate();
  PrefixNode* used = cache.insert(text_key(root, c), in_use);
  used->uses = 3;
  in_use.reset();
  for (PrefixNode* next : {cheap, used, deep, root}) {
    ASSERT_EQ(cache.cheapest(), next);
    cache.evict(*next);
  }
}

// Of a long run used once not a page outlives what is used since, however many there are.
TEST(PrefixCache, ARunUsedOnceGoesWhole) {
  Pool pool(64);
  Cache cache({10, 0.001});
  std::vector<BlockRef> scan = blocks_of(pool, 40), other = blocks_of(pool, 1);
  const Tokens tokens = {1, 2};
  PrefixNode* at = nullptr;
  for (const BlockRef& block : scan) at = cache.insert(text_key(at, tokens), block);
  scan.clear();
  const Tokens question = {7, 8};
  PrefixNode* kept = cache.insert(text_key(nullptr, question), other[0]);
  kept->uses = 2;
  other.clear();
  for (int i = 0; i < 40; ++i) {
    ASSERT_NE(cache.cheapest(), kept) << i;
    cache.evict(*cache.cheapest());
  }
  EXPECT_EQ(cache.cheapest(), kept);
}

TEST(PrefixCache, WhatASessionUsesStays) {
  Pool pool(2);
  Cache cache;
  const Tokens tokens = {1};
  BlockRef in_use = pool->try_allocate();
  PrefixNode* node = cache.insert(text_key(nullptr, tokens), in_use);
  PrefixNode* leaf = cache.insert(shared_key(node, 3), nullptr);
  cache.hold(*leaf);
  EXPECT_EQ(cache.evictable_blocks(), 0u);
  EXPECT_EQ(cache.cheapest(), nullptr);
  cache.let_go(*leaf);
  EXPECT_EQ(cache.size(), 1u) << "a shared text with nothing behind it";
  EXPECT_EQ(cache.cheapest(), nullptr) << "its block is in use";
  in_use.reset();
  EXPECT_EQ(cache.cheapest(), node);
  EXPECT_EQ(cache.evictable_blocks(), 1u);
  cache.hold(*node);
  EXPECT_EQ(cache.cheapest(), nullptr) << "a session stands on it";
  EXPECT_EQ(cache.evictable_blocks(), 1u);
  cache.let_go(*node);
  EXPECT_EQ(cache.cheapest(), node);
}

// Shared texts in a row do not pile up when what stands behind them goes.
TEST(PrefixCache, SharedTextsGoWithWhatStandsBehindThem) {
  Pool pool(2);
  Cache cache;
  PrefixNode* at = nullptr;
  for (uint64_t i = 1; i <= 10'000; ++i) at = cache.insert(shared_key(at, i), nullptr);
  const Tokens tokens = {1};
  PrefixNode* end = cache.insert(text_key(at, tokens), pool->try_allocate());
  EXPECT_EQ(cache.size(), 10'001u);
  cache.evict(*end);
  EXPECT_EQ(cache.size(), 0u);
}

TEST(PrefixCache, ABlockStandsInOnePlace) {
  Pool pool(2);
  Cache cache;
  const Tokens a = {1}, b = {2};
  const BlockRef block = pool->try_allocate();
  cache.insert(text_key(nullptr, a), block);
  EXPECT_THROW(cache.insert(text_key(nullptr, b), block), Error);
  EXPECT_EQ(cache.size(), 1u);
}

TEST(PrefixCache, SerialsAreNeverUsedTwice) {
  Cache cache;
  uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    PrefixNode* node = cache.insert(shared_key(nullptr, 1), nullptr);
    cache.hold(*node);
    EXPECT_GT(node->serial, last);
    last = node->serial;
    cache.let_go(*node);
    EXPECT_EQ(cache.size(), 0u);
  }
}

// Sessions come and go in a random tree; after each step all counts are those of a count by hand.
TEST(PrefixCache, CountsStayRight) {
  Pool pool(200);
  Cache cache({5, 1});
  tessera::test::Random random(3);
  struct Session {
    PrefixNode* at = nullptr;
    std::vector<BlockRef> blocks;
  };
  std::vector<Session> sessions(6);
  const auto leave = [&](Session& session) {
    if (random.one_in(2)) session.blocks.clear();
    if (session.at) cache.let_go(*session.at);
    session = {};
  };
  uint64_t evictions = 0;
  for (int step = 0; step < 4000; ++step) {
    Session& session = sessions[random.below(sessions.size())];
    if (random.one_in(8)) {
      leave(session);
    } else {
      const Tokens tokens(1 + random.below(3), static_cast<int32_t>(random.below(3)));
      const bool shared = random.one_in(4);
      const PrefixKey key =
          shared ? shared_key(session.at, random.below(3)) : text_key(session.at, tokens);
      PrefixNode* node = cache.find(key);
      while (!node && !shared && pool->free() == 0 && cache.cheapest()) {
        cache.evict(*cache.cheapest());
        ++evictions;
      }
      if (!node && !shared && pool->free() == 0) {
        leave(session);
        continue;
      }
      if (!node) node = cache.insert(key, shared ? nullptr : pool->try_allocate());
      ++node->uses;
      if (node->block) session.blocks.push_back(node->block);
      cache.hold(*node);
      if (session.at) cache.let_go(*session.at);
      session.at = node;
    }
    std::map<const PrefixNode*, uint32_t> holders;
    for (const Session& s : sessions) ++holders[s.at];
    for (const auto& [hash, node] : cache.nodes()) ++holders[node.parent];
    uint64_t unused = 0;
    const PrefixNode* best = nullptr;
    for (const auto& [hash, node] : cache.nodes()) {
      ASSERT_EQ(node.holders, holders[&node]);
      ASSERT_TRUE(node.block || node.holders > 0);
      if (!node.block || node.block.use_count() > 1) continue;
      ++unused;
      if (node.holders == 0 && (!best || ValueRule::before(node, *best))) best = &node;
    }
    ASSERT_EQ(cache.evictable_blocks(), unused);
    ASSERT_EQ(cache.cheapest(), best);
  }
  EXPECT_GT(evictions, 200u);
  for (Session& session : sessions) leave(session);
  while (cache.cheapest()) cache.evict(*cache.cheapest());
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(pool->used(), 0u);
}

}  // namespace
}  // namespace tessera::kv::test
