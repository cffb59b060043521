#include "runtime/kv/canonical_store.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/kv/pool.hpp"

namespace tessera::kv::test {
namespace {

using Tokens = std::vector<int32_t>;
constexpr auto kChunk = CanonicalKind::chunk;

TEST(Identify, EverythingCounts) {
  const Identity base{11, 22};
  const Tokens tokens = {1, 2, 3};
  const std::vector<Identity> all = {
      identify(base, kChunk, tokens),
      identify({12, 22}, kChunk, tokens),
      identify({11, 23}, kChunk, tokens),
      identify({11, 22 + (uint64_t{1} << 40)}, kChunk, tokens),
      identify(base, CanonicalKind::anchor, tokens),
      identify(base, CanonicalKind::primer, tokens),
      identify(base, kChunk, {1, 2}),
      identify(base, kChunk, {1, 2, 3, 0}),
      identify(base, kChunk, {1, 3, 2}),
      identify(base, kChunk, {}),
  };
  std::set<std::pair<uint64_t, uint64_t>> distinct;
  for (const Identity& identity : all) distinct.insert({identity.low, identity.high});
  EXPECT_EQ(distinct.size(), all.size());
  EXPECT_EQ(all[0], identify(base, kChunk, tokens)) << "not a function of its arguments";
}

TEST(Identify, TheOrderOfAnchorAndPrimerCounts) {
  const auto chain = [](const Tokens& anchor, const Tokens& primer) {
    return identify(identify({}, CanonicalKind::anchor, anchor), CanonicalKind::primer, primer);
  };
  EXPECT_FALSE(chain({1}, {2}) == chain({2}, {1}));
  EXPECT_FALSE(chain({1, 2}, {}) == chain({1}, {2}));
}

TEST(CanonicalStore, EqualTokensShareOneEntry) {
  CanonicalStore store;
  const CanonicalRef a = store.intern(kChunk, {1, 2}, {5, 6});
  EXPECT_EQ(store.intern(kChunk, {1, 2}, {5, 6}), a);
  EXPECT_EQ(store.entries().size(), 1u);
  EXPECT_EQ(a->size(), 2u);
  EXPECT_EQ(a->state, CanonicalState::absent);
  EXPECT_NE(a->serial, 0u);
}

// Equal identities are what a hash collision looks like.
TEST(CanonicalStore, ACollisionIsFoundByTheTokens) {
  CanonicalStore store;
  const CanonicalRef a = store.intern(kChunk, {1, 2}, {5, 6});
  const CanonicalRef b = store.intern(kChunk, {1, 2}, {5, 7});
  const CanonicalRef c = store.intern(CanonicalKind::anchor, {1, 2}, {5, 6});
  const CanonicalRef d = store.intern(kChunk, {1, 3}, {5, 6});  // equal in the half that is hashed
  EXPECT_EQ((std::set{a, b, c, d}.size()), 4u);
  EXPECT_EQ((std::set{a->serial, b->serial, c->serial, d->serial}.size()), 4u);
  EXPECT_EQ(store.intern(kChunk, {1, 2}, {5, 6}), a);
  EXPECT_EQ(store.intern(kChunk, {1, 2}, {5, 7}), b);
  EXPECT_EQ(store.intern(CanonicalKind::anchor, {1, 2}, {5, 6}), c);
  EXPECT_EQ(store.intern(kChunk, {1, 3}, {5, 6}), d);
}

TEST(CanonicalStore, SweepForgetsWhatNobodyNeeds) {
  Pool pool(4);
  CanonicalStore store;
  const CanonicalRef held = store.intern(kChunk, {1, 0}, {1});
  store.intern(kChunk, {2, 0}, {2});                                  // forgotten
  store.intern(kChunk, {3, 0}, {3})->state = CanonicalState::failed;  // forgotten
  store.intern(kChunk, {4, 0}, {4})->state = CanonicalState::pending;
  CanonicalRef ready = store.intern(kChunk, {5, 0}, {5});
  ready->state = CanonicalState::ready;
  ready->blocks.push_back(pool->try_allocate());
  ready.reset();
  store.intern(kChunk, {6, 0}, {6})->pins = 1;
  store.sweep();
  EXPECT_EQ(store.entries().size(), 4u);
  EXPECT_EQ(store.intern(kChunk, {1, 0}, {1}), held);
  EXPECT_EQ(store.intern(kChunk, {5, 0}, {5})->state, CanonicalState::ready);
  EXPECT_EQ(store.intern(kChunk, {3, 0}, {3})->state, CanonicalState::absent) << "the old entry";
  EXPECT_EQ(pool->used(), 1u);
}

TEST(CanonicalStore, SerialsAreNeverUsedTwice) {
  CanonicalStore store;
  uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    const uint64_t serial = store.intern(kChunk, {7, 7}, {1})->serial;
    EXPECT_GT(serial, last);
    last = serial;
    store.sweep();
    EXPECT_TRUE(store.entries().empty());
  }
}

TEST(CanonicalStore, CountsWhatMayBeGivenBack) {
  Pool pool(8);
  CanonicalStore store;
  const auto make_ready = [&](int32_t token, int blocks) {
    CanonicalRef text = store.intern(kChunk, {static_cast<uint64_t>(token), 0}, {token});
    for (int i = 0; i < blocks; ++i) text->blocks.push_back(pool->try_allocate());
    text->state = CanonicalState::ready;
    return text;
  };
  const CanonicalRef a = make_ready(1, 3), b = make_ready(2, 2);
  EXPECT_EQ(store.evictable_blocks(), 5u);
  EXPECT_EQ(store.ready_chunks(), 2u);
  ++a->pins;
  EXPECT_EQ(store.evictable_blocks(), 2u);
  drop_kv(*b);
  EXPECT_EQ(b->state, CanonicalState::absent);
  EXPECT_EQ(store.evictable_blocks(), 0u);
  EXPECT_EQ(store.ready_chunks(), 1u);
  EXPECT_EQ(pool->used(), 3u);
  --a->pins;
  EXPECT_EQ(store.evictable_blocks(), 3u);
}

}  // namespace
}  // namespace tessera::kv::test
