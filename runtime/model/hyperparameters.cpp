#include "runtime/model/hyperparameters.hpp"

#include <limits>
#include <sstream>

#include "backends/error.hpp"
#include "runtime/gguf/reader.hpp"

namespace tessera::model {
namespace {

// Far above any model there is; keeps every product of two of them inside 64 bits.
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxWidth = 1u << 20;
constexpr uint64_t kMaxHeads = 65536;
constexpr uint64_t kMaxContext = 1u << 28;
// Of all heads together; what backends take for a row of activations.
constexpr uint64_t kMaxHeadsWidth = 1u << 24;

class KeyReader {
 public:
  KeyReader(const gguf::Reader& reader, const std::string& prefix)
      : reader_(reader), prefix_(prefix + ".") {}

  uint32_t count(const char* key, uint64_t most) const {
    return bounded(key, reader_.get_uint(prefix_ + key), most);
  }
  uint32_t count(const char* key, uint64_t most, uint64_t absent) const {
    return bounded(key, reader_.get_uint(prefix_ + key, absent), most);
  }
  double positive(const char* key, double absent) const {
    return read_positive(reader_, prefix_ + key, absent);
  }
  [[noreturn]] void corrupt(const char* key, const std::string& what) const {
    fail(Status::corrupt_file, reader_.path() + ": key " + prefix_ + key + " " + what);
  }

 private:
  uint32_t bounded(const char* key, uint64_t value, uint64_t most) const {
    if (value == 0 || value > most) {
      corrupt(key, "is " + std::to_string(value) + ", must be 1 to " + std::to_string(most));
    }
    return static_cast<uint32_t>(value);
  }

  const gguf::Reader& reader_;
  std::string prefix_;
};

}  // namespace

double read_positive(const gguf::Reader& reader, const std::string& key, double absent) {
  const double value = reader.get_float(key, absent);
  const bool fits = value >= std::numeric_limits<float>::min() &&
                    value <= std::numeric_limits<float>::max();  // no for NaN
  if (!fits) {
    std::ostringstream number;
    number << value;
    fail(Status::corrupt_file, reader.path() + ": key " + key + " is " + number.str() +
                                   ", must be a positive number that a float can hold");
  }
  return value;
}

Hyperparameters read_hyperparameters(const gguf::Reader& reader, uint32_t vocabulary) {
  Hyperparameters h;
  h.architecture = reader.get_string("general.architecture");
  h.name = reader.get_string("general.name", "");
  const KeyReader key(reader, h.architecture);
  if (const uint64_t experts = reader.get_uint(h.architecture + ".expert_count", 0)) {
    fail(Status::unsupported, reader.path() + ": key " + h.architecture + ".expert_count is " +
                                  std::to_string(experts) +
                                  "; mixtures of experts are not supported");
  }
  h.layers = key.count("block_count", kMaxLayers);
  h.width = key.count("embedding_length", kMaxWidth);
  h.ffn_width = key.count("feed_forward_length", kMaxWidth);
  h.context_length = key.count("context_length", kMaxContext);
  h.heads = key.count("attention.head_count", kMaxHeads);
  h.kv_heads = key.count("attention.head_count_kv", kMaxHeads, h.heads);
  if (h.heads % h.kv_heads != 0) {
    key.corrupt("attention.head_count_kv", "is " + std::to_string(h.kv_heads) +
                                               ", must divide attention.head_count " +
                                               std::to_string(h.heads));
  }
  h.head_dim = key.count("attention.key_length", kMaxWidth, h.width / h.heads);
  if (uint64_t{h.heads} * h.head_dim > kMaxHeadsWidth) {
    key.corrupt("attention.key_length",
                "is " + std::to_string(h.head_dim) + ", times attention.head_count " +
                    std::to_string(h.heads) + " more than " + std::to_string(kMaxHeadsWidth));
  }
  if (key.count("attention.value_length", kMaxWidth, h.head_dim) != h.head_dim) {
    key.corrupt("attention.value_length", "differs from attention.key_length " +
                                              std::to_string(h.head_dim) +
                                              "; they must be equal here");
  }
  h.rope_dims = key.count("rope.dimension_count", kMaxWidth, h.head_dim);
  if (h.rope_dims > h.head_dim || h.rope_dims % 2 != 0) {
    key.corrupt("rope.dimension_count", "is " + std::to_string(h.rope_dims) +
                                            ", must be even and at most the head size " +
                                            std::to_string(h.head_dim));
  }
  h.rope_base = key.positive("rope.freq_base", 10000.0);
  h.norm_epsilon = static_cast<float>(key.positive("attention.layer_norm_rms_epsilon", 1e-5));
  h.vocabulary = vocabulary;
  if (key.count("vocab_size", UINT32_MAX, vocabulary) != vocabulary) {
    key.corrupt("vocab_size", "differs from the " + std::to_string(vocabulary) +
                                  " entries of tokenizer.ggml.tokens");
  }
  return h;
}

}  // namespace tessera::model
