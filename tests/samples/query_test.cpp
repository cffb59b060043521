#include "samples/rag/query.hpp"

#include <gtest/gtest.h>

#include <string>

#include "samples/rag/library.hpp"

namespace rag {
namespace {

using Words = std::vector<std::string>;

TEST(Query, StopWordsGoIfSomethingIsLeft) {
  EXPECT_EQ(query_words("What is the licence of the GPL?"), (Words{"licence", "gpl"}));
  EXPECT_EQ(query_words("who are you"), (Words{"who", "are", "you"}));
  EXPECT_EQ(query_words(""), Words{});
  EXPECT_EQ(query_words("?! -- @"), Words{});
}

TEST(Query, EveryWordIsQuoted) {
  EXPECT_EQ(match_expression("multi-agent C++"), "\"multi-agent\" OR \"c\"");
  EXPECT_EQ(match_expression("say\"so AND x"), "\"say\"\"so\" OR \"x\"");
  EXPECT_EQ(match_expression(" "), "");
}

TEST(Query, Bigrams) {
  EXPECT_EQ(cjk_bigrams("plain"), "");
  EXPECT_EQ(cjk_bigrams("中"), "中");
  EXPECT_EQ(cjk_bigrams("中文字"), "中文 文字");
  EXPECT_EQ(cjk_bigrams("a中b文字c"), "中 文字");
  EXPECT_EQ(match_expression("文字 page"), "\"page\" OR \"文字\"");
}

class Search : public testing::Test {
 protected:
  void add(const std::string& name, const std::string& text) {
    Passage all;
    all.end = text.size();
    all.line = 1;
    library_.put_file({"/" + name, text.size(), 0, 0}, name, text, {all});
  }
  Words names(const std::string& question, std::uint32_t limit = 10) {
    Words found;
    for (const Hit& hit : library_.search(match_expression(question), limit))
      found.push_back(hit.name);
    return found;
  }
  Library library_{":memory:", Library::Access::kWrite};
};

TEST_F(Search, NoQuestionIsASyntaxError) {
  add("a.txt", "what is a page");
  for (const char* question :
       {"what's", "multi-agent", "why?",        "C++",   "@x", "AND",
        "",       "\"",          "a OR",        "NEAR(", "*",  "^x",
        "col:x",  "(",           "x AND NOT y", "—",     "'",  "\xE2\x80\x9Cquoted\xE2\x80\x9D",
        "-",      "{a b}: c"})
    EXPECT_NO_THROW(names(question)) << question;
}

TEST_F(Search, OneUnknownWordDoesNotHideTheRest) {
  add("a.txt", "the page pool has fixed pages");
  add("b.txt", "something else");
  EXPECT_EQ(names("zyzzyva page"), Words{"a.txt"});
}

TEST_F(Search, BestFirstAndLimited) {
  add("one.txt",
      "patent and a long text of other things that dilutes what it says of patents here");
  add("two.txt", "patent grant patent licence");
  EXPECT_EQ(names("patent licence").front(), "two.txt");
  EXPECT_EQ(names("patent licence", 1).size(), 1u);
}

TEST_F(Search, WordFormsAndFileNames) {
  add("GPL-3.txt", "charging a fee");
  add("x.txt", "nothing");
  EXPECT_EQ(names("charged fees"), Words{"GPL-3.txt"});
  EXPECT_EQ(names("GPL"), Words{"GPL-3.txt"});
}

TEST_F(Search, ChineseWordsOfTwoCharacters) {
  add("zh.txt", "这是一个中文文档");
  add("en.txt", "a document");
  EXPECT_EQ(names("中文"), Words{"zh.txt"});
}

TEST_F(Search, ReplacedTextIsGone) {
  add("a.txt", "first version");
  add("a.txt", "second");
  EXPECT_EQ(names("first version"), Words{});
  EXPECT_EQ(names("second"), Words{"a.txt"});
  library_.remove_file("/a.txt");
  library_.optimize();
  EXPECT_EQ(names("second"), Words{});
  EXPECT_EQ(library_.passage_count(), 0u);
}

}  // namespace
}  // namespace rag
