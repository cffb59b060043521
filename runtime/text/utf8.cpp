#include "runtime/text/utf8.hpp"

#include <algorithm>
#include <cstdint>

namespace tessera::text {
namespace {

struct Lead {
  size_t length;        // bytes of the character, 0 if the byte leads none
  uint8_t second_low;   // bounds of the second byte: they exclude overlong forms, surrogates
  uint8_t second_high;  // and what lies above U+10FFFF
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Unit utf8_unit(std::string_view bytes) {
  const Lead lead = lead_of(static_cast<uint8_t>(bytes[0]));
  if (lead.length == 0) return {Utf8::invalid, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8::incomplete, i};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8::invalid, i};
  }
  return {Utf8::valid, lead.length};
}

size_t utf8_first_invalid(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    if (static_cast<uint8_t>(bytes[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Unit unit = utf8_unit(bytes.substr(at));
    if (unit.kind != Utf8::valid) return at;
    at += unit.length;
  }
  return std::string_view::npos;
}

size_t utf8_complete_prefix(std::string_view bytes) {
  // An incomplete character is at most three bytes, so only starts in the last three matter. The
  // earliest one that reaches the end is the answer: later bytes are its continuation bytes.
  const size_t size = bytes.size();
  for (size_t back = std::min<size_t>(3, size); back > 0; --back) {
    const Utf8Unit unit = utf8_unit(bytes.substr(size - back));
    if (unit.kind == Utf8::incomplete) return size - back;
  }
  return size;
}

}  // namespace tessera::text
