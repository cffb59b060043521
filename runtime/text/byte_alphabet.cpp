#include "runtime/text/byte_alphabet.hpp"

#include <array>

namespace tessera::text {
namespace {

constexpr int kCharacters = 0x144;  // code points below this can be of the alphabet

struct Alphabet {
  std::array<uint16_t, 256> character{};       // code point of a byte
  std::array<int16_t, kCharacters> byte_of{};  // byte of a code point, -1 if none
};

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr Alphabet make_alphabet() {
  Alphabet a;
  for (auto& byte : a.byte_of) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = stands_for_itself(byte) ? byte : next++;
    a.character[byte] = static_cast<uint16_t>(character);
    a.byte_of[character] = static_cast<int16_t>(byte);
  }
  return a;
}

constexpr Alphabet kAlphabet = make_alphabet();
static_assert(kAlphabet.character[' '] == 0x120 && kAlphabet.byte_of[0x143] == 0xAD);

}  // namespace

std::string spell_byte(uint8_t byte) {
  const uint16_t c = kAlphabet.character[byte];
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
}

std::optional<std::string> unspell(std::string_view spelled) {
  std::string bytes;
  bytes.reserve(spelled.size());
  for (size_t i = 0; i < spelled.size(); ++i) {
    int c = static_cast<uint8_t>(spelled[i]);
    if (c >= 0x80) {  // of the alphabet are two-byte characters only
      if ((c & 0xE0) != 0xC0 || i + 1 == spelled.size()) return std::nullopt;
      const int low = static_cast<uint8_t>(spelled[++i]);
      if ((low & 0xC0) != 0x80) return std::nullopt;
      c = (c & 0x1F) << 6 | (low & 0x3F);
      if (c < 0x80) return std::nullopt;
    }
    if (c >= kCharacters || kAlphabet.byte_of[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[c]));
  }
  return bytes;
}

}  // namespace tessera::text
