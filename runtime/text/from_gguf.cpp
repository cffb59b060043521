#include "runtime/text/from_gguf.hpp"

#include <string_view>

#include "backends/error.hpp"
#include "runtime/gguf/reader.hpp"

namespace tessera::text {
namespace {

[[noreturn]] void corrupt(const gguf::Reader& reader, const std::string& message) {
  fail(Status::corrupt_file, reader.path() + ": " + message);
}

int32_t token_id(const gguf::Reader& reader, std::string_view key, size_t tokens) {
  if (!reader.find(key)) return -1;
  const uint64_t id = reader.get_uint(key);
  if (id >= tokens) {
    corrupt(reader, std::string(key) + " is " + std::to_string(id) + ", but there are " +
                        std::to_string(tokens) + " tokens");
  }
  return static_cast<int32_t>(id);
}

// Numbers of tokenizer.ggml.token_type; 0 is "undefined" in old files.
TokenKind kind_of(const gguf::Reader& reader, int32_t number) {
  switch (number) {
    case 0:
    case 1:
      return TokenKind::normal;
    case 2:
      return TokenKind::unknown;
    case 3:
      return TokenKind::control;
    case 4:
      return TokenKind::user_defined;
    case 5:
      return TokenKind::unused;
    case 6:
      return TokenKind::byte;
    default:
      corrupt(reader,
              "tokenizer.ggml.token_type has " + std::to_string(number) + "; known are 0 to 6");
  }
}

}  // namespace

VocabularyData vocabulary_from_gguf(const gguf::Reader& reader) {
  VocabularyData data;
  data.model = reader.get_string("tokenizer.ggml.model");
  data.pre = reader.get_string("tokenizer.ggml.pre", "");
  data.tokens = reader.get_strings("tokenizer.ggml.tokens");
  if (data.tokens.size() > INT32_MAX) corrupt(reader, "tokenizer.ggml.tokens has over 2^31 tokens");
  if (reader.find("tokenizer.ggml.token_type")) {
    for (const int32_t number : reader.get_ints("tokenizer.ggml.token_type")) {
      data.kinds.push_back(kind_of(reader, number));
    }
  }
  if (reader.find("tokenizer.ggml.merges")) {
    data.merges = reader.get_strings("tokenizer.ggml.merges");
  }
  const size_t tokens = data.tokens.size();
  data.bos = token_id(reader, "tokenizer.ggml.bos_token_id", tokens);
  data.eos = token_id(reader, "tokenizer.ggml.eos_token_id", tokens);
  data.eot = token_id(reader, "tokenizer.ggml.eot_token_id", tokens);
  data.unknown = token_id(reader, "tokenizer.ggml.unknown_token_id", tokens);
  data.padding = token_id(reader, "tokenizer.ggml.padding_token_id", tokens);
  // Llama 3 files often leave the key out and mean "yes".
  data.add_bos = reader.get_bool("tokenizer.ggml.add_bos_token", data.pre == "llama-bpe");
  data.chat_template = reader.get_string("tokenizer.chat_template", "");
  return data;
}

}  // namespace tessera::text
