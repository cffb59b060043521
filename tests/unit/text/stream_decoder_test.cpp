#include "runtime/text/stream_decoder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/text/utf8.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/unit/gguf/expect_error.hpp"

namespace tessera::text {
namespace {

using test::Random;

// Characters of every length, pieces of characters, and bytes that begin none.
std::string random_bytes(Random* random, size_t longest) {
  static const std::vector<std::string> kParts = {
      "a",        "b",    "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80",  "\xF0\x9F",
      "\xE4\xB8", "\x80", "\xFF",     "\xC3",         std::string(1, '\0')};
  std::string bytes;
  for (uint64_t n = random->below(longest); n > 0; --n) {
    bytes += kParts[random->below(kParts.size())];
  }
  return bytes;
}

// Cuts `whole` at random places; empty pieces happen.
std::vector<std::string> random_pieces(Random* random, const std::string& whole) {
  std::vector<std::string> pieces;
  size_t at = 0;
  while (at < whole.size()) {
    const size_t size = std::min<size_t>(random->below(5), whole.size() - at);
    pieces.push_back(whole.substr(at, size));
    at += size;
  }
  return pieces;
}

// U+FFFD for every unit that is no character.
std::string repaired(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Unit unit = utf8_unit(bytes);
    text += unit.kind == Utf8::valid ? std::string(bytes.substr(0, unit.length)) : "\xEF\xBF\xBD";
    bytes.remove_prefix(unit.length);
  }
  return text;
}

TEST(StreamDecoder, NeverEmitsHalfACharacter) {
  Random random(2);
  for (int round = 0; round < 20000; ++round) {
    const std::string bytes = random_bytes(&random, 12);
    StreamDecoder decoder;
    std::string text;
    for (const std::string& piece : random_pieces(&random, bytes)) {
      const std::string out = decoder.push(piece);
      ASSERT_EQ(utf8_first_invalid(out), std::string_view::npos);
      text += out;
    }
    // What is held back is at most one beginning of a character.
    ASSERT_EQ(text, repaired(bytes.substr(0, utf8_complete_prefix(bytes))));
    text += decoder.flush();
    ASSERT_EQ(text, repaired(bytes)) << testing::PrintToString(bytes);
  }
}

TEST(StreamDecoder, ShowsACharacterWithItsLastByte) {
  StreamDecoder decoder;
  EXPECT_EQ(decoder.push("x\xF0"), "x");
  EXPECT_EQ(decoder.push("\x9F\x98"), "");
  EXPECT_EQ(decoder.push("\x80y"), "\xF0\x9F\x98\x80y");
  EXPECT_EQ(decoder.flush(), "");
  EXPECT_EQ(decoder.push("\xE4\xB8"), "");
  EXPECT_EQ(decoder.flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.push("\xAD"), "\xEF\xBF\xBD");  // as new: this belongs to nothing before
}

// Text before the stop string that ends first, the longest of those.
struct Expected {
  std::string text;
  bool stopped;
};
Expected naive(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

// Bytes at the end of `text` that could be the beginning of a stop string.
size_t naive_held(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) held = std::max(held, n);
    }
  }
  return held;
}

TEST(StopMatcher, AgreesWithSearchingTheWholeText) {
  Random random(3);
  const auto word = [&](uint64_t least, uint64_t most) {
    std::string result;
    for (uint64_t n = least + random.below(most - least + 1); n > 0; --n) {
      result += static_cast<char>('a' + random.below(2));
    }
    return result;
  };
  int stops_found = 0;
  for (int round = 0; round < 30000; ++round) {
    std::vector<std::string> stops;
    for (uint64_t n = random.below(4); n > 0; --n) stops.push_back(word(1, 6));
    const std::string text = word(0, 16);
    const Expected expected = naive(text, stops);
    StopMatcher matcher(stops);
    std::string seen;
    std::string out;
    bool stopped = false;
    for (const std::string& piece : random_pieces(&random, text)) {
      const StopMatcher::Output output = matcher.push(piece);
      ASSERT_FALSE(stopped && !output.text.empty()) << "text after the stop";
      ASSERT_FALSE(stopped && !output.stopped);
      stopped = output.stopped;
      out += output.text;
      seen += piece;
      if (!stopped) {  // nothing is held back without need, nothing is shown too early
        ASSERT_EQ(out, seen.substr(0, seen.size() - naive_held(seen, stops)));
      }
    }
    const std::string rest = matcher.flush();
    ASSERT_TRUE(!stopped || rest.empty());
    ASSERT_EQ(out + rest, expected.text) << text;
    ASSERT_EQ(stopped, expected.stopped) << text;
    stops_found += stopped;
  }
  EXPECT_GT(stops_found, 5000);
}

TEST(StopMatcher, WithoutStopsPassesAllAndAfterFlushBeginsAnew) {
  StopMatcher none({});
  EXPECT_EQ(none.push("abc").text, "abc");
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.push("one E").text, "one ");
  EXPECT_EQ(matcher.push("N").text, "");
  EXPECT_EQ(matcher.push("E\n").text, "ENE");
  EXPECT_EQ(matcher.flush(), "\n");
  const StopMatcher::Output output = matcher.push("\n two END three");
  EXPECT_EQ(output.text, "\n two ");
  EXPECT_TRUE(output.stopped);
  EXPECT_TRUE(matcher.push("more").stopped);
  EXPECT_EQ(matcher.flush(), "");
  EXPECT_FALSE(matcher.push("EN").stopped);
}

TEST(StopMatcher, RefusesAnEmptyStop) {
  test::expect_error(Status::invalid_argument, {"stop string", "empty"}, [] {
    StopMatcher({"x", ""});
  });
}

}  // namespace
}  // namespace tessera::text
