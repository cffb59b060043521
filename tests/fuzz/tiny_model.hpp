// A complete llama model in a few hundred kilobytes: random weights, a real byte-level tokenizer
// and every key that a loader needs. Engine tests and the fuzz test run on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backends/dtype.hpp"

namespace tessera::test {

enum class RopeScaling { none, linear, yarn, llama3 };

struct TinyModel {
  uint32_t layers = 2;
  uint32_t width = 64;  // embedding length
  uint32_t heads = 4;
  uint32_t kv_heads = 2;   // divides heads
  uint32_t head_dim = 16;  // even; heads * head_dim may differ from width
  uint32_t ffn = 128;
  uint32_t vocab = 320;  // at least 300; beyond the merges filled with unused tokens
  uint32_t context = 1024;
  // Of the matrices; norms are F32. width, ffn and heads * head_dim must be multiples of its block.
  DType type = DType::f32;
  uint64_t seed = 1;
  bool tied = true;  // without output.weight: the embedding serves as output
  float rms_epsilon = 1e-5f;

  float rope_base = 10000.0f;
  uint32_t rope_dimensions = 0;  // rotated dimensions of a head; 0: head_dim
  // linear and yarn by keys; llama3 by the tensor rope_freqs.weight, as converters write it (low
  // and high frequency factors 1 and 4).
  RopeScaling rope_scaling = RopeScaling::none;
  float rope_factor = 4.0f;
  uint32_t rope_original_context = 256;

  std::string architecture = "llama";  // general.architecture and the keys' prefix
};

// The default model with widths that fit the blocks of `type` (256 for the K types).
TinyModel tiny_model_of(DType type);

// Writes the model to `path`. The bytes depend on `model` only, on every machine. Each tensor's
// values depend on seed, name and shape, not on the type: models that differ in `type` approximate
// the same weights. Throws Error invalid_argument for impossible sizes, io_error.
void write_tiny_model(const std::string& path, const TinyModel& model);

// The fp32 weights of a matrix or norm before quantisation, `count` values; what an independent
// reference computes with. `fan_in` is the row length; 0 for a norm.
std::vector<float> tiny_weights(const TinyModel& model, const std::string& name, uint64_t count,
                                uint32_t fan_in);

// The vocabulary, by id: 0 to 2 are <|endoftext|>, <|im_start|>, <|im_end|>; 3 to 258 the 256 bytes
// in the order of the GPT-2 alphabet; then one token for each merge, then unused ones.
struct TinyVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;  // 1 normal, 3 control, 5 unused
  std::vector<std::string> merges;
};
TinyVocabulary tiny_vocabulary(uint32_t size);

}  // namespace tessera::test
