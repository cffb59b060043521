// The numbers that fix a model's shape, read from a GGUF file and bounded.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::gguf {
class Reader;
}

namespace tessera::model {

struct Hyperparameters {
  std::string architecture;  // "llama"
  std::string name;          // for people; may be empty
  uint32_t layers = 0;
  uint32_t width = 0;  // of the residual stream
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t ffn_width = 0;
  uint32_t vocabulary = 0;
  uint32_t context_length = 0;  // tokens
  uint32_t rope_dims = 0;       // leading elements of a head that RoPE rotates
  double rope_base = 10000.0;
  float norm_epsilon = 1e-5f;
};

// Reads `general.*` and `<architecture>.*`. `vocabulary` is the number of tokens of the tokenizer.
// Throws corrupt_file naming file and key for a missing, zero, contradictory or absurd value,
// unsupported for a mixture of experts.
Hyperparameters read_hyperparameters(const gguf::Reader& reader, uint32_t vocabulary);

// The number of a key, or `absent`. Throws corrupt_file naming file and key unless it is positive,
// finite and, being computed with in fp32, within a float's normal range.
double read_positive(const gguf::Reader& reader, const std::string& key, double absent);

}  // namespace tessera::model
