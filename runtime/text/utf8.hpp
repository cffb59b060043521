// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
// All functions are pure and safe from any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace tessera::text {

// What stands at the start of some bytes.
enum class Utf8 {
  valid,       // one whole character
  incomplete,  // the bytes end inside a character that more bytes could still complete
  invalid,     // bytes that begin no character, whatever follows
};

struct Utf8Unit {
  Utf8 kind;
  // Bytes it covers, 1 to 4. For `invalid` and `incomplete`: the longest run that some valid
  // character begins with, or one byte; this is the unit that becomes one U+FFFD (Unicode 3.9,
  // "substitution of maximal subparts").
  size_t length;
};

// Looks at the first character of `bytes`, which must not be empty.
Utf8Unit utf8_unit(std::string_view bytes);

// Offset of the first byte that belongs to no whole character, or std::string_view::npos if all
// of `bytes` is valid. A character cut off at the end counts as invalid.
size_t utf8_first_invalid(std::string_view bytes);

// Length of `bytes` without an incomplete character at its end. Invalid bytes count as complete:
// waiting for more input would not mend them.
size_t utf8_complete_prefix(std::string_view bytes);

}  // namespace tessera::text
