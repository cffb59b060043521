#include "runtime/kv/canonical_store.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/kv/pool.hpp"
#include "tests/unit/kv/weak_hashes.hpp"

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

struct Store : ValueRule, CanonicalStore {
  explicit Store(Work work = {1, 0}) : ValueRule(work), CanonicalStore(rule()) {}
  ValueRule& rule() { return *this; }
};

TEST(CanonicalStore, EqualTokensShareOneEntry) {
  Store store;
  const CanonicalRef a = store.intern(kChunk, {1, 2}, {5, 6});
  EXPECT_EQ(store.intern(kChunk, {1, 2}, {5, 6}), a);
  EXPECT_EQ(store.entries().size(), 1u);
  EXPECT_EQ(a->size(), 2u);
  EXPECT_EQ(a->state, CanonicalState::absent);
  EXPECT_NE(a->serial, 0u);
}

// Equal identities are what a hash collision looks like.
TEST(CanonicalStore, ACollisionIsFoundByTheTokens) {
  Store store;
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
  Store store;
  const CanonicalRef held = store.intern(kChunk, {1, 0}, {1});
  store.intern(kChunk, {2, 0}, {2});                                  // forgotten
  store.intern(kChunk, {3, 0}, {3})->state = CanonicalState::failed;  // forgotten
  store.intern(kChunk, {4, 0}, {4})->state = CanonicalState::pending;
  store.take_in(*store.intern(kChunk, {5, 0}, {5}), blocks_of(pool, 1));
  store.hold(*store.intern(kChunk, {6, 0}, {6}));
  store.pin(*store.intern(kChunk, {7, 0}, {7}), true);
  store.sweep();
  EXPECT_EQ(store.entries().size(), 5u);
  EXPECT_EQ(store.intern(kChunk, {1, 0}, {1}), held);
  EXPECT_EQ(store.intern(kChunk, {5, 0}, {5})->state, CanonicalState::ready);
  EXPECT_EQ(store.intern(kChunk, {3, 0}, {3})->state, CanonicalState::absent) << "the old entry";
  EXPECT_EQ(pool->used(), 1u);
}

TEST(CanonicalStore, SerialsAreNeverUsedTwice) {
  Store store;
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
  Store store;
  const auto make_ready = [&](int32_t token, uint64_t blocks) {
    CanonicalRef text = store.intern(kChunk, {static_cast<uint64_t>(token), 0}, {token});
    store.take_in(*text, blocks_of(pool, blocks));
    return text;
  };
  const CanonicalRef a = make_ready(1, 3), b = make_ready(2, 2);
  EXPECT_EQ(store.evictable_blocks(), 5u);
  EXPECT_EQ(store.ready_chunks(), 2u);
  store.hold(*a);
  store.hold(*a);
  EXPECT_EQ(store.evictable_blocks(), 2u);
  EXPECT_EQ(store.cheapest(), b.get());
  store.drop_kv(*b);
  EXPECT_EQ(b->state, CanonicalState::absent);
  EXPECT_EQ(store.evictable_blocks(), 0u);
  EXPECT_EQ(store.cheapest(), nullptr);
  EXPECT_EQ(store.ready_chunks(), 1u);
  EXPECT_EQ(pool->used(), 3u);
  store.let_go(*a);
  EXPECT_EQ(store.evictable_blocks(), 0u);
  store.let_go(*a);
  EXPECT_EQ(store.evictable_blocks(), 3u);
  EXPECT_EQ(store.cheapest(), a.get());
}

TEST(CanonicalStore, PinsAreCountedWhileThereIsKv) {
  Pool pool(8);
  Store store;
  const CanonicalRef text = store.intern(kChunk, {1, 0}, {1});
  store.pin(*text, true);
  store.pin(*text, true);
  EXPECT_EQ(store.pinned_blocks(), 0u);
  store.take_in(*text, blocks_of(pool, 3));
  EXPECT_EQ(store.pinned_blocks(), 3u);
  EXPECT_EQ(store.evictable_blocks(), 0u);
  EXPECT_EQ(store.cheapest(), nullptr);
  store.hold(*text);
  store.let_go(*text);
  EXPECT_EQ(store.evictable_blocks(), 0u);
  store.pin(*text, false);
  EXPECT_EQ(store.pinned_blocks(), 0u);
  EXPECT_EQ(store.evictable_blocks(), 3u);
  store.pin(*text, true);
  store.drop_kv(*text);
  EXPECT_TRUE(text->pinned);
  EXPECT_EQ(store.pinned_blocks(), 0u);
  EXPECT_EQ(pool->used(), 0u);
}

// Dear for its bytes, or used often: stays. Of equals the longest unused goes.
TEST(CanonicalStore, TheCheapestGoesFirst) {
  Pool pool(16);
  Store store({100, 1});
  const auto make_ready = [&](int32_t token, uint64_t length, uint64_t blocks, uint64_t depth) {
    CanonicalRef text =
        store.intern(kChunk, {static_cast<uint64_t>(token), 0}, Tokens(length, token), depth);
    store.take_in(*text, blocks_of(pool, blocks));
    return text;
  };
  const CanonicalRef deep = make_ready(1, 16, 1, 1000), half = make_ready(2, 8, 1, 0);
  const CanonicalRef old = make_ready(3, 16, 1, 0), twin = make_ready(4, 16, 1, 0);
  const CanonicalRef used = make_ready(5, 16, 1, 0);
  used->uses = 2;
  store.hold(*used);
  store.let_go(*used);
  store.hold(*old);  // the same worth as its twin, but used later
  store.let_go(*old);
  for (const CanonicalRef& next : {half, twin, old, used, deep}) {
    ASSERT_EQ(store.cheapest(), next.get());
    store.evict(*next);
    EXPECT_FALSE(next->ready());
  }
  EXPECT_EQ(store.cheapest(), nullptr);
}

// Hashes only find: with every text under one identity each still has its own entry.
TEST(CanonicalStore, WithoutAnyHash) {
  const WeakHashes weak;
  Store store;
  std::vector<CanonicalRef> entries;
  for (int32_t i = 0; i < 100; ++i) {
    const Tokens tokens = {i % 10, i / 10};
    const Identity identity = identify({1, 2}, kChunk, tokens);
    EXPECT_EQ(identity, Identity{});
    entries.push_back(store.intern(kChunk, identity, tokens));
  }
  EXPECT_EQ(store.entries().size(), 100u);
  for (int32_t i = 0; i < 100; ++i) {
    const Tokens tokens = {i % 10, i / 10};
    EXPECT_EQ(store.intern(kChunk, identify({1, 2}, kChunk, tokens), tokens), entries[i]);
  }
}

}  // namespace
}  // namespace tessera::kv::test
