#include "runtime/text/utf8.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "runtime/text/byte_alphabet.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::text {
namespace {

constexpr size_t kAllValid = std::string_view::npos;

// UTF-8 of any number below 2^21, valid or not.
std::string encoded(uint32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
}

TEST(Utf8, EveryCodePoint) {
  for (uint32_t c = 0; c < 0x1FFFFF; ++c) {
    const bool valid = c < 0xD800 || (c >= 0xE000 && c < 0x110000);
    const std::string bytes = encoded(c);
    const Utf8Unit unit = utf8_unit(bytes);
    ASSERT_EQ(unit.kind == Utf8::valid, valid) << std::hex << c;
    ASSERT_EQ(utf8_first_invalid("ab" + bytes), valid ? kAllValid : 2) << std::hex << c;
    if (valid) {
      ASSERT_EQ(unit.length, bytes.size());
    }
  }
}

TEST(Utf8, OverlongFormsAreInvalid) {
  for (const char* bytes : {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF"}) {
    EXPECT_EQ(utf8_unit(bytes).kind, Utf8::invalid);
    EXPECT_EQ(utf8_unit(bytes).length, 1u);
  }
}

TEST(Utf8, UnitsAreMaximalSubparts) {
  // The example of the Unicode Standard, table 3-8: U+FFFD stands for <F1 80 80> <E1 80> <C2>.
  std::string_view rest = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
  std::string lengths;
  for (; !rest.empty(); rest.remove_prefix(utf8_unit(rest).length)) {
    lengths += std::to_string(utf8_unit(rest).length);
    lengths += utf8_unit(rest).kind == Utf8::valid ? "v" : "i";
  }
  EXPECT_EQ(lengths, "1v3i2i1i1v1i1v1i1i1v");
}

TEST(Utf8, FirstInvalid) {
  EXPECT_EQ(utf8_first_invalid(""), kAllValid);
  EXPECT_EQ(utf8_first_invalid("abc\xC3\xA9"), kAllValid);
  EXPECT_EQ(utf8_first_invalid("abc\xC3"), 3u);
  EXPECT_EQ(utf8_first_invalid("\xFFx"), 0u);
  EXPECT_EQ(utf8_first_invalid(std::string_view("a\0b\x80", 4)), 3u);
}

// The complete prefix is what stays when a last unit of kind `incomplete` is taken off.
TEST(Utf8, CompletePrefixAgreesWithReadingFromTheStart) {
  constexpr std::string_view kBytes = "a\x80\xBF\xC2\xE0\xA0\xED\x9F\xF0\x90\xF4\x8F\xFF";
  test::Random random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (uint64_t n = random.below(7); n > 0; --n) bytes += kBytes[random.below(kBytes.size())];
    size_t at = 0;
    while (at < bytes.size()) {
      const Utf8Unit unit = utf8_unit(std::string_view(bytes).substr(at));
      if (unit.kind == Utf8::incomplete) break;
      at += unit.length;
    }
    ASSERT_EQ(utf8_complete_prefix(bytes), at) << testing::PrintToString(bytes);
  }
}

TEST(ByteAlphabet, SpellsEveryByteDifferentlyAndBack) {
  std::string all;
  std::string spelled;
  for (int byte = 0; byte < 256; ++byte) {
    all.push_back(static_cast<char>(byte));
    spelled += spell_byte(static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(unspell(spelled), all);
  EXPECT_EQ(spell_byte(' '), "\xC4\xA0");  // U+0120, as vocabularies have it
  EXPECT_EQ(spell_byte('a'), "a");
}

TEST(ByteAlphabet, RefusesOtherCharacters) {
  for (const char* text :
       {" ", "\n", "\xC2\xA0", "\xC5\x84", "\xE4\xB8\xAD", "\xC4", "\x80", "\xC1\xA1", "\xC4z"}) {
    EXPECT_EQ(unspell(text), std::nullopt) << testing::PrintToString(std::string(text));
  }
}

}  // namespace
}  // namespace tessera::text
