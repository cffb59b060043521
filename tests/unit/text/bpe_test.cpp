#include "runtime/text/bpe.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>

#include "runtime/text/tokenizer.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/unit/text/small_vocabulary.hpp"

namespace tessera::text {
namespace {

using test::Ids;
using test::Random;
using test::small_vocabulary;

// Merges of random neighbours of what there is already, over the letters a, b and c.
std::vector<std::string> random_merges(Random* random, size_t count) {
  std::vector<std::string> parts = {"a", "b", "c"};
  std::vector<std::string> merges;
  while (merges.size() < count) {
    const std::string left = parts[random->below(parts.size())];
    const std::string right = parts[random->below(parts.size())];
    if (std::find(parts.begin(), parts.end(), left + right) != parts.end()) continue;
    if (left.size() + right.size() > 9) continue;
    merges.push_back(left + " " + right);
    parts.push_back(left + right);
  }
  return merges;
}

// The definition, taken literally.
std::vector<std::string> naive(const std::string& word, const std::vector<std::string>& merges) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const size_t space = merges[rank].find(' ');
    ranks[{merges[rank].substr(0, space), merges[rank].substr(space + 1)}] = rank;
  }
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    size_t best = merges.size();
    size_t at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find({parts[i], parts[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == merges.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
}

// Short words (scanned) and long ones (heap), on both sides of the threshold.
TEST(Bpe, AgreesWithTheDefinition) {
  Random random(4);
  for (int round = 0; round < 60; ++round) {
    const std::vector<std::string> merges = random_merges(&random, 25);
    const Tokenizer tokenizer(small_vocabulary(merges));
    for (int i = 0; i < 25; ++i) {
      std::string word;
      for (uint64_t n = 1 + random.below(i < 15 ? 60 : 200); n > 0; --n) {
        word += static_cast<char>('a' + random.below(3));
      }
      std::vector<std::string> parts;
      for (const int32_t id : tokenizer.encode(word, false)) {
        parts.emplace_back(tokenizer.piece(id));
      }
      ASSERT_EQ(parts, naive(word, merges)) << word;
    }
  }
}

TEST(Bpe, EqualMergesGoFromLeftToRight) {
  const Tokenizer tokenizer(small_vocabulary({"a a", "aa aa"}));
  EXPECT_EQ(tokenizer.encode("aaa", false), (Ids{256, 'a'}));
  EXPECT_EQ(tokenizer.encode("aaaaa", false), (Ids{257, 'a'}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa", false), (Ids{257, 256, 'a'}));
}

TEST(Bpe, AMillionBytesInOneWordTakeNoQuadraticTime) {
  const Tokenizer tokenizer(small_vocabulary({"a b", "ab ab", "abab abab", "b a", "a a"}));
  std::string word;
  while (word.size() < 1'000'000) word += "abababba";
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = tokenizer.encode(word, false);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(tokenizer.decode(ids, false), word);
  EXPECT_LT(ids.size(), word.size() / 2);
  EXPECT_LT(seconds.count(), 20);  // 0.1 s; the quadratic way takes many minutes
}

TEST(MergeTable, KeepsTheLastRankOfAPair) {
  MergeTable table(1000);
  for (int32_t i = 0; i < 1000; ++i) table.set(i % 40, i / 40, static_cast<uint32_t>(i));
  table.set(3, 4, 7777);
  for (int32_t i = 0; i < 1000; ++i) {
    const uint32_t expected = i == 4 * 40 + 3 ? 7777 : static_cast<uint32_t>(i);
    ASSERT_EQ(table.rank(i % 40, i / 40), expected);
  }
  EXPECT_EQ(table.rank(40, 0), MergeTable::kNone);
  EXPECT_EQ(MergeTable().rank(0, 0), MergeTable::kNone);
}

}  // namespace
}  // namespace tessera::text
