#include <string>
#include <unordered_set>

#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUnused = 5;  // ggml's token types

// UTF-8 of a code point below 0x800.
std::string utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

// The GPT-2 alphabet writes every byte as one visible character: bytes that are visible in Latin-1
// as themselves, the others (controls, space, 0x7f to 0xa0, 0xad) as U+0100 and up in byte order.
// Vocabularies list the visible ones first.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> visible, others;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool shown =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    if (shown) {
      visible.push_back(utf8(byte));
    } else {
      others.push_back(utf8(0x100 + static_cast<uint32_t>(others.size())));
    }
  }
  visible.insert(visible.end(), others.begin(), others.end());
  return visible;
}

}  // namespace

TinyVocabulary tiny_vocabulary(uint32_t size) {
  TinyVocabulary vocabulary;
  std::unordered_set<std::string> known;
  auto add = [&](const std::string& token, int32_t type) {
    if (vocabulary.tokens.size() >= size || !known.insert(token).second) return false;
    vocabulary.tokens.push_back(token);
    vocabulary.types.push_back(type);
    return true;
  };
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) add(token, kControl);
  for (const std::string& token : byte_alphabet()) add(token, kNormal);

  auto merge = [&](const std::string& left, const std::string& right) {
    if (add(left + right, kNormal)) vocabulary.merges.push_back(left + " " + right);
  };
  // In order of rank; each part is a byte or an earlier merge. "\u0120" stands for a space.
  const std::string space = utf8(0x120);
  merge(space, "t");
  merge(space, "a");
  merge("h", "e");
  merge("i", "n");
  merge(space + "t", "he");
  merge("e", "r");
  merge("o", "n");
  merge("r", "e");
  merge("a", "n");
  merge("in", "g");
  merge(space, "s");
  merge("an", "d");
  merge(space, "and");
  merge("l", "l");
  merge("e", "ll");
  merge("ell", "o");
  merge(space, space);
  merge(space + space, space + space);
  merge(utf8(0xc3), utf8(0xa9));  // the two bytes of U+00E9 in UTF-8
  // More of the same kind, as far as the size allows.
  for (const char* letters = "etaoinshrdlucmfwypvbgkjqxz"; *letters != '\0'; ++letters) {
    merge(space, std::string(1, *letters));
    for (const char second : {'e', 'a', 'o', 'i', 'u', 't', 's', 'n'}) {
      merge(std::string(1, *letters), std::string(1, second));
    }
  }
  for (uint32_t i = 0; vocabulary.tokens.size() < size; ++i) {
    add("<|unused_" + std::to_string(i) + "|>", kUnused);
  }
  return vocabulary;
}

}  // namespace tessera::test
