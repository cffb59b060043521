// What a tokenizer is built from, as a model file states it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::text {

enum class TokenKind : uint8_t { normal, unknown, control, user_defined, unused, byte };

// Plain data, not yet checked: Tokenizer's constructor checks it. Ids are indices into `tokens`;
// -1 means that the file names none.
struct VocabularyData {
  std::string model;                // family of algorithm: "gpt2" is byte-level BPE
  std::string pre;                  // pre-tokenizer: "smollm", "gpt-2", "llama-bpe", "qwen2"
  std::vector<std::string> tokens;  // normal tokens spelled in the byte alphabet, others literal
  std::vector<TokenKind> kinds;     // one a token; empty means that all are normal
  std::vector<std::string> merges;  // "left right", the earlier the stronger
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t eot = -1;
  int32_t unknown = -1;
  int32_t padding = -1;
  bool add_bos = false;
  std::string chat_template;  // Jinja, empty if the file has none
};

}  // namespace tessera::text
