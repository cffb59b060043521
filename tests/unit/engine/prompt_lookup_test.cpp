// Drafts against a search of the whole text, and how long and how often they come.
#include "runtime/engine/prompt_lookup.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/fuzz/random.hpp"

namespace tessera::engine {
namespace {

using Text = std::vector<int32_t>;

size_t agreement(const Text& text, size_t place) {
  size_t n = 0;
  while (n < 16 && n < place && text[place - 1 - n] == text[text.size() - 1 - n]) ++n;
  return n;
}

// The last 8 places where the last three tokens stood, else the last two; of those the one that
// agrees longest, the last of equals.
Text naive(const Text& text, size_t length) {
  for (const size_t gram : {3u, 2u}) {
    size_t best = 0, longest = 0;
    int looked = 0;
    for (size_t place = text.size() - 1; place >= gram && looked < 8; --place) {
      const size_t n = agreement(text, place);
      if (n < gram) continue;
      ++looked;
      if (n > longest) best = place, longest = n;
    }
    if (best == 0) continue;
    Text longer = text;
    for (size_t i = 0; i < length; ++i) longer.push_back(longer[best + i]);
    return Text(longer.begin() + static_cast<ptrdiff_t>(text.size()), longer.end());
  }
  return {};
}

// A lookup whose drafts are as long as may be.
PromptLookup eager(const Text& text, size_t capacity) {
  PromptLookup lookup(text, capacity, 64);
  lookup.settle(text, 64);
  return lookup;
}

TEST(PromptLookup, FindsWhatASearchFinds) {
  int found = 0, missed = 0, empty = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    test::Random random(seed);
    const int32_t alphabet = seed % 4 == 0 ? 2 : seed % 4 == 1 ? 5 : seed % 4 == 2 ? 30 : 400;
    Text text;
    const size_t begun = random.below(50);
    const auto grow = [&] {
      // Sometimes a piece that was there already.
      if (text.size() > 10 && random.one_in(8)) {
        const size_t from = random.below(text.size() - 8);
        for (size_t i = 0; i < 8; ++i) text.push_back(text[from + i]);
      } else {
        text.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(alphabet))));
      }
    };
    while (text.size() < begun) grow();
    constexpr size_t kCapacity = 400;
    PromptLookup lookup = eager(text, kCapacity);
    while (text.size() + 8 < kCapacity) {
      const size_t known = text.size();
      grow();
      for (size_t i = known + 1; i <= text.size(); ++i) lookup.push(std::span(text).first(i));
      if (text.size() < 2) continue;
      const size_t length = 1 + random.below(40);
      const Text want = naive(text, length);
      const Text got = lookup.draft(text, length);
      // A place that only shares the bucket costs a look: rarely, one of eight is not reached.
      if (got == want) {
        ++(want.empty() ? empty : found);
      } else {
        ++missed;
        ASSERT_LE(got.size(), length);
      }
    }
  }
  EXPECT_GT(found, 4000);
  EXPECT_GT(empty, 1000);
  EXPECT_LT(missed, (found + empty) / 20);
}

TEST(PromptLookup, RepetitionRunsOnIntoTheDraft) {
  const Text text = {9, 1, 2, 3, 1, 2, 3};
  EXPECT_EQ(eager(text, 100).draft(text, 10), (Text{1, 2, 3, 1, 2, 3, 1, 2, 3, 1}));
}

TEST(PromptLookup, TheLongestAgreementIsTaken) {
  const Text text = {5, 1, 2, 3, 70, 6, 1, 2, 3, 80, 5, 1, 2, 3};
  EXPECT_EQ(eager(text, 100).draft(text, 1), Text{70});
  const Text later = {5, 1, 2, 3, 70, 6, 1, 2, 3, 80, 7, 1, 2, 3};
  EXPECT_EQ(eager(later, 100).draft(later, 1), Text{80});
}

TEST(PromptLookup, SmallTexts) {
  for (const Text& text : {Text{}, Text{1}, Text{1, 2}, Text{1, 1}}) {
    EXPECT_TRUE(eager(text, text.size()).draft(text, 8).empty());
  }
  const Text text = {1, 1, 1};
  EXPECT_EQ(eager(text, 3).draft(text, 4), (Text{1, 1, 1, 1}));
  // Behind its capacity it finds nothing and breaks nothing.
  PromptLookup full = eager(text, 3);
  const Text longer = {1, 1, 1, 1};
  full.push(longer);
  EXPECT_TRUE(full.draft(longer, 4).empty());
}

TEST(PromptLookup, LengthFollowsWhatIsAccepted) {
  Text text(20, 7);
  PromptLookup lookup(text, 1000, 10);
  EXPECT_EQ(lookup.draft(text, 100).size(), 3u);
  for (const auto& [accepted, next] : {std::pair{3, 7}, {7, 10}, {2, 5}, {1, 3}, {10, 10}}) {
    lookup.settle(text, static_cast<size_t>(accepted));
    EXPECT_EQ(lookup.draft(text, 100).size(), static_cast<size_t>(next));
  }
  EXPECT_EQ(lookup.draft(text, 4).size(), 4u);
  EXPECT_TRUE(lookup.draft(text, 0).empty());
  EXPECT_EQ(PromptLookup(text, 1000, 1).draft(text, 100).size(), 1u);
}

TEST(PromptLookup, PausesGrowWhileNothingIsAccepted) {
  Text text(20, 7);
  PromptLookup lookup(text, 1000, 8);
  const auto next = [&] {
    text.push_back(7);
    lookup.push(text);
  };
  for (int round = 0; round < 2; ++round) {
    for (const size_t pause : {1u, 2u, 4u, 8u, 16u, 32u, 32u}) {
      next();
      lookup.settle(text, 0);
      for (size_t i = 0; i < pause; ++i, next()) {
        EXPECT_TRUE(lookup.draft(text, 8).empty()) << "pause " << pause << ", token " << i;
      }
      EXPECT_EQ(lookup.draft(text, 8).size(), 1u) << "pause " << pause;
    }
    lookup.settle(text, 1);
    EXPECT_EQ(lookup.draft(text, 8).size(), 3u) << "what is accepted ends the pauses";
  }
}

}  // namespace
}  // namespace tessera::engine
