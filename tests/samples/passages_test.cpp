#include "samples/rag/passages.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace rag {
namespace {

// Words, as a stand-in for tokens.
std::size_t count_words(std::string_view text) {
  std::size_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    words += !space && !inside;
    inside = !space;
  }
  return words;
}

std::size_t count_bytes(std::string_view text) {
  return text.size();
}

std::vector<std::string> texts(std::string_view text, std::size_t max, const TokenCounter& count) {
  std::vector<std::string> result;
  for (const Passage& p : split_passages(text, max, count))
    result.emplace_back(text.substr(p.begin, p.end - p.begin));
  return result;
}

using Texts = std::vector<std::string>;

TEST(Passages, NothingGivesNone) {
  EXPECT_TRUE(split_passages("", 10, count_words).empty());
  EXPECT_TRUE(split_passages(" \n\t\n\n", 10, count_words).empty());
}

TEST(Passages, ShortTextIsOne) {
  EXPECT_EQ(texts("one two\n\nthree\n", 10, count_words), Texts{"one two\n\nthree"});
}

TEST(Passages, CutsAtParagraphs) {
  EXPECT_EQ(texts("a b c d\n\ne f g h\n\ni j k l\n", 9, count_words),
            (Texts{"a b c d\n\ne f g h", "i j k l"}));
}

TEST(Passages, CutsAtLinesWhenTheParagraphEndIsTooEarly) {
  EXPECT_EQ(texts("a\n\nb c d e\nf g h i\nj k l m\n", 9, count_words),
            (Texts{"a\n\nb c d e\nf g h i", "j k l m"}));
}

TEST(Passages, CutsLongLinesAtSentences) {
  EXPECT_EQ(texts("One two three. Four five six.", 4, count_words),
            (Texts{"One two three.", "Four five six."}));
}

TEST(Passages, OffsetsAndLines) {
  const std::string text = "\n\n  first\n\nsecond line\n";
  const std::vector<Passage> passages = split_passages(text, 2, count_words);
  ASSERT_EQ(passages.size(), 2u);
  EXPECT_EQ(text.substr(passages[0].begin, passages[0].end - passages[0].begin), "  first");
  EXPECT_EQ(passages[0].line, 3u);
  EXPECT_EQ(passages[0].tokens, 1u);
  EXPECT_EQ(passages[1].begin, text.find("second"));
  EXPECT_EQ(passages[1].line, 5u);
}

TEST(Passages, ByteOrderMarkIsLeftOut) {
  EXPECT_EQ(texts("\xEF\xBB\xBFtext", 10, count_words), Texts{"text"});
  EXPECT_TRUE(split_passages("\xEF\xBB\xBF", 10, count_words).empty());
}

TEST(Passages, CharactersAreNeverCut) {
  // 30 characters of 3 bytes and no space; a passage holds 7 bytes, so two characters at most.
  std::string text;
  for (int i = 0; i < 30; ++i) text += "語";
  std::string joined;
  for (const std::string& piece : texts(text, 7, count_bytes)) {
    EXPECT_EQ(piece.size() % 3, 0u);
    EXPECT_LE(piece.size(), 7u);
    joined += piece;
  }
  EXPECT_EQ(joined, text);
}

// Every byte that is not white space is in exactly one passage; passages respect the bound.
TEST(Passages, RandomTextsAreCovered) {
  std::mt19937 random(7);
  const std::string alphabet = "ab.  \n\nxyz! ";
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 400, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    const std::size_t max = 1 + random() % 40;
    std::size_t at = 0;
    for (const Passage& p : split_passages(text, max, count_bytes)) {
      ASSERT_LE(at, p.begin);
      ASSERT_LT(p.begin, p.end);
      ASSERT_LE(p.end - p.begin, max);
      EXPECT_EQ(text.substr(at, p.begin - at).find_first_not_of(" \n"), std::string::npos);
      EXPECT_EQ(p.line, 1 + std::count(text.begin(), text.begin() + p.begin, '\n'));
      at = p.end;
    }
    EXPECT_EQ(text.substr(at).find_first_not_of(" \n"), std::string::npos);
  }
}

}  // namespace
}  // namespace rag
