#include "samples/rag/primer.hpp"

#include <gtest/gtest.h>

namespace rag {
namespace {

class Primer : public testing::Test {
 protected:
  // A file of one passage that counts as `tokens`.
  void put(const std::string& name, const std::string& text, std::uint32_t tokens) {
    library_.put_file({"/" + name, text.size(), 0, 0}, name, text,
                      {Passage{0, text.size(), 1, tokens}});
  }
  bool take(bool again = false) {
    return take_primer(library_, again, [&](std::string_view text, std::size_t tokens) {
      EXPECT_EQ(tokens, kPrimerTokens);
      seen_ = text;
      ++cuts_;
      return std::string(text.substr(0, keep_));
    });
  }

  Library library_{":memory:", Library::Access::kWrite};
  std::string seen_;
  std::size_t keep_ = std::string::npos;
  int cuts_ = 0;
};

TEST_F(Primer, WaitsUntilThereIsEnoughText) {
  EXPECT_FALSE(take());
  put("a.txt", "alpha", 300);
  EXPECT_FALSE(take());
  EXPECT_EQ(cuts_, 0);
  EXPECT_EQ(library_.primer(), "");
  put("b.txt", "beta", 212);
  put("c.txt", "gamma", 100);
  EXPECT_TRUE(take());
  EXPECT_EQ(seen_, prompt_text("a.txt", "alpha") + prompt_text("b.txt", "beta")) << "no more";
  EXPECT_EQ(library_.primer(), seen_);
}

TEST_F(Primer, StaysWhileTheLibraryChanges) {
  put("a.txt", "alpha", 600);
  EXPECT_TRUE(take());
  const std::string first = library_.primer();
  library_.remove_file("/a.txt");
  EXPECT_FALSE(take());
  put("b.txt", "beta", 600);
  EXPECT_FALSE(take());
  EXPECT_EQ(library_.primer(), first);
  EXPECT_EQ(cuts_, 1);
  EXPECT_TRUE(take(true));
  EXPECT_EQ(library_.primer(), prompt_text("b.txt", "beta"));
  library_.remove_file("/b.txt");
  EXPECT_FALSE(take(true)) << "not from too little";
  EXPECT_EQ(library_.primer(), prompt_text("b.txt", "beta"));
}

TEST_F(Primer, EndsWithAWholeCharacter) {
  put("a.txt", "caf\xC3\xA9", 600);
  keep_ = prompt_text("a.txt", "caf").size() - 1;  // with the first byte of the last character
  EXPECT_TRUE(take());
  EXPECT_EQ(library_.primer(), "From \"a.txt\":\ncaf");
}

}  // namespace
}  // namespace rag
