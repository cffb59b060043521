#include "samples/rag/text_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace rag {
namespace {

TEST(Utf8, Valid) {
  for (const char* text :
       {"", "plain", "é", "語", "😀", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(find_invalid_utf8(text), std::string::npos) << text;
}

TEST(Utf8, InvalidGivesItsOffset) {
  EXPECT_EQ(find_invalid_utf8("ab\xFF"), 2u);
  EXPECT_EQ(find_invalid_utf8("\x80"), 0u);              // continuation first
  EXPECT_EQ(find_invalid_utf8("a\xC3"), 1u);             // cut short
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xE0\x9F\xBF"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xF0\x9F\x98"), 0u);      // cut short
}

class TextFileTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) /
            ("tessera_text_file_" + std::to_string(::getpid()));
  }
  void TearDown() override { std::filesystem::remove(path_); }
  TextFile read(std::string_view bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    return read_text_file(path_);
  }
  std::filesystem::path path_;
};

TEST_F(TextFileTest, ReadsBytesAsTheyAre) {
  const TextFile file = read("a\r\nb\n");
  EXPECT_EQ(file.skipped, "");
  EXPECT_EQ(file.text, "a\r\nb\n");
  EXPECT_EQ(file.hash, content_hash("a\r\nb\n"));
  EXPECT_NE(file.hash, content_hash("a\nb\n"));
}

TEST_F(TextFileTest, SaysWhyNot) {
  EXPECT_EQ(read("").skipped, "empty");
  EXPECT_EQ(read(" \n\t").skipped, "empty: white space only");
  EXPECT_EQ(read(std::string_view("ab\0c", 4)).skipped, "not text: zero byte at offset 2");
  EXPECT_EQ(read("caf\xE9 noir").skipped, "not UTF-8: invalid byte at offset 3");
  EXPECT_NE(read_text_file("/no/such/file").skipped.find("cannot be read"), std::string::npos);
}

}  // namespace
}  // namespace rag
