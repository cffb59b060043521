// From the bytes of generated tokens to text that may be shown at once: whole characters, and
// nothing of a stop string. Each object belongs to one stream and is used by one thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

// Cuts a stream of bytes at character boundaries. Everything it returns is valid UTF-8: bytes that
// begin no character become U+FFFD, one for each unit of utf8.hpp. The concatenated output does
// not depend on how the input was cut.
class StreamDecoder {
 public:
  // The characters that `bytes` complete. At most three bytes are held back.
  std::string push(std::string_view bytes);
  // End of the stream: U+FFFD for what was held back, or nothing. The decoder is then as new.
  std::string flush();

 private:
  std::string tail_;  // the beginning of a character
};

// Looks for stop strings in a stream of text. The stream stops at the stop string that ends first,
// the longest if several end there; where the input is cut makes no difference.
class StopMatcher {
 public:
  // Any number of stop strings, none included. Throws invalid_argument for an empty one.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Output {
    std::string text;  // may be shown; never holds a stop string or the beginning of one to come
    bool stopped;      // a stop string was found; it and all that follows it is dropped
  };
  // Holds back what could become a stop string. After a stop all input is dropped.
  Output push(std::string_view text);
  // End of the stream: what was held back. Empty after a stop. The matcher is then as new.
  std::string flush();

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // Knuth-Morris-Pratt: longest border of each prefix
    size_t matched = 0;            // bytes of `text` that the stream ends with
  };
  size_t advance(char c);

  std::vector<Stop> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace tessera::text
