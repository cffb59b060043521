#include "runtime/kv/value.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/fuzz/random.hpp"

namespace tessera::kv::test {
namespace {

TEST(Work, IsTheSumOverTokens) {
  const Work work{7, 3};
  for (const uint64_t depth : {0u, 1u, 100u}) {
    double sum = 0;
    for (uint64_t token = 0; token < 40; ++token) {
      EXPECT_DOUBLE_EQ(work.of(token, depth), sum);
      sum += 7 + 3. * static_cast<double>(depth + token + 1);
    }
  }
}

Valued entry(double cost, uint64_t bytes, uint64_t uses = 1) {
  Valued entry;
  entry.cost = cost;
  entry.bytes = bytes;
  entry.uses = uses;
  return entry;
}

TEST(ValueRule, CostAndUsesCountForBytesAgainst) {
  const double value = ValueRule::value(entry(100, 10));
  EXPECT_GT(ValueRule::value(entry(101, 10)), value);
  EXPECT_GT(ValueRule::value(entry(100, 10, 2)), value);
  EXPECT_LT(ValueRule::value(entry(100, 11)), value);
  EXPECT_EQ(ValueRule::value(entry(100, 10, 0)), value) << "made, and not taken yet";
  EXPECT_EQ(ValueRule::value(entry(200, 20)), value);
}

// What was used a thousand times goes in the end, if it is not used any more.
TEST(ValueRule, Ages) {
  ValueRule rule;
  ValueQueue queue;
  queue.make_room(2);
  Valued old = entry(10, 1, 1000);
  rule.used(old);
  queue.push(old);
  int outlived = 0;
  while (true) {
    Valued fresh = entry(10, 1);
    rule.used(fresh);
    queue.push(fresh);
    Valued* first = queue.first();
    rule.given_up(*first);
    queue.remove(*first);
    if (first == &old) break;
    ASSERT_EQ(first, &fresh);
    ASSERT_LT(++outlived, 2000);
  }
  EXPECT_EQ(outlived, 999);
  EXPECT_EQ(rule.level(), 10'000);
}

TEST(ValueRule, OfEqualsTheLongestUnused) {
  ValueRule rule;
  Valued a = entry(10, 1), b = entry(10, 1);
  rule.used(b);
  rule.used(a);
  a.value = ValueRule::value(a);
  b.value = ValueRule::value(b);
  EXPECT_TRUE(ValueRule::before(b, a));
  EXPECT_FALSE(ValueRule::before(a, b));
}

// Against a search by hand, in random work.
TEST(ValueQueue, TheFirstIsTheFirst) {
  tessera::test::Random random(1);
  ValueRule rule;
  ValueQueue queue;
  std::vector<Valued> entries(300);
  queue.make_room(entries.size());
  for (int step = 0; step < 20'000; ++step) {
    Valued& one = entries[random.below(entries.size())];
    if (one.queued()) {
      queue.remove(one);
      ASSERT_FALSE(one.queued());
    } else {
      one.cost = static_cast<double>(random.below(20));
      one.bytes = 1 + random.below(3);
      one.uses = random.below(4);
      rule.used(one);
      queue.push(one);
      ASSERT_TRUE(one.queued());
    }
    if (random.one_in(10) && queue.first()) rule.given_up(*queue.first());
    size_t queued = 0;
    const Valued* best = nullptr;
    for (const Valued& other : entries) {
      if (!other.queued()) continue;
      ++queued;
      if (!best || ValueRule::before(other, *best)) best = &other;
    }
    ASSERT_EQ(queue.size(), queued);
    ASSERT_EQ(queue.first(), best);
  }
}

}  // namespace
}  // namespace tessera::kv::test
