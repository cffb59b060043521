// A vocabulary of all 256 bytes, the merges of a few words, and special tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/text/byte_alphabet.hpp"
#include "runtime/text/vocabulary.hpp"

namespace tessera::test {

// `merges` as "left right" in the byte alphabet; what they give is added to the tokens in order.
// Ids: byte b is b, then the merges from 256 on, then `control`, then `user_defined`.
inline text::VocabularyData small_vocabulary(std::vector<std::string> merges,
                                             const std::vector<std::string>& control = {},
                                             const std::vector<std::string>& user_defined = {}) {
  text::VocabularyData data;
  data.model = "gpt2";
  data.pre = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(text::spell_byte(static_cast<uint8_t>(byte)));
  }
  for (std::string merged : merges) {
    merged.erase(merged.find(' '), 1);
    data.tokens.push_back(merged);
  }
  data.merges = std::move(merges);
  data.kinds.assign(data.tokens.size(), text::TokenKind::normal);
  for (const std::string& token : control) {
    data.tokens.push_back(token);
    data.kinds.push_back(text::TokenKind::control);
  }
  for (const std::string& token : user_defined) {
    data.tokens.push_back(token);
    data.kinds.push_back(text::TokenKind::user_defined);
  }
  return data;
}

using Ids = std::vector<int32_t>;

}  // namespace tessera::test
