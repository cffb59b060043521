#include "tests/fuzz/tiny_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>

#include "backends/error.hpp"
#include "runtime/gguf/writer.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::test {
namespace {

constexpr char kChatTemplate[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Nearly normal, variance 1: the sum of four 16-bit uniform numbers, without a rounding libm call.
float normal(Random& random) {
  const uint64_t bits = random.next();
  const auto sum = static_cast<double>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                       (bits >> 32 & 0xffff) + (bits >> 48));
  return static_cast<float>((sum / 65535.0 - 2.0) * std::numbers::sqrt3);
}

void check(const TinyModel& m) {
  auto require = [](bool good, const char* what) {
    if (!good) fail(Status::invalid_argument, std::string("tiny model: ") + what);
  };
  require(m.layers > 0 && m.width > 0 && m.ffn > 0, "layers, width and ffn must be positive");
  require(m.kv_heads > 0 && m.heads % m.kv_heads == 0, "kv_heads must divide heads");
  require(m.head_dim > 0 && m.head_dim % 2 == 0, "head_dim must be even");
  require(m.vocab >= 300, "vocab must be at least 300");
}

void set_rope(gguf::Writer& writer, const TinyModel& m) {
  const std::string prefix = m.architecture + ".rope.";
  writer.set(prefix + "freq_base", m.rope_base);
  writer.set(prefix + "dimension_count", m.rope_dimensions != 0 ? m.rope_dimensions : m.head_dim);
  if (m.rope_scaling == RopeScaling::linear || m.rope_scaling == RopeScaling::yarn) {
    writer.set(prefix + "scaling.type", m.rope_scaling == RopeScaling::yarn ? "yarn" : "linear");
    writer.set(prefix + "scaling.factor", m.rope_factor);
    writer.set(prefix + "scaling.original_context_length", m.rope_original_context);
  }
}

void set_keys(gguf::Writer& writer, const TinyModel& m) {
  const std::string prefix = m.architecture + ".";
  writer.set("general.architecture", m.architecture);
  writer.set("general.name", "tiny");
  writer.set("general.quantization_version", uint32_t{2});
  writer.set(prefix + "context_length", m.context);
  writer.set(prefix + "block_count", m.layers);
  writer.set(prefix + "embedding_length", m.width);
  writer.set(prefix + "feed_forward_length", m.ffn);
  writer.set(prefix + "vocab_size", m.vocab);
  writer.set(prefix + "attention.head_count", m.heads);
  writer.set(prefix + "attention.head_count_kv", m.kv_heads);
  writer.set(prefix + "attention.layer_norm_rms_epsilon", m.rms_epsilon);
  if (m.heads * m.head_dim != m.width) {  // otherwise width / heads is the default
    writer.set(prefix + "attention.key_length", m.head_dim);
    writer.set(prefix + "attention.value_length", m.head_dim);
  }
  set_rope(writer, m);

  TinyVocabulary vocabulary = tiny_vocabulary(m.vocab);
  writer.set("tokenizer.ggml.model", "gpt2");
  writer.set("tokenizer.ggml.pre", "smollm");
  writer.set("tokenizer.ggml.tokens", std::move(vocabulary.tokens));
  writer.set("tokenizer.ggml.token_type", std::move(vocabulary.types));
  writer.set("tokenizer.ggml.merges", std::move(vocabulary.merges));
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  writer.set("tokenizer.ggml.unknown_token_id", uint32_t{0});
  writer.set("tokenizer.ggml.add_bos_token", false);
  writer.set("tokenizer.chat_template", kChatTemplate);
}

// The values of one tensor, one after the other.
class WeightValues {
 public:
  WeightValues(const TinyModel& model, const std::string& name, uint32_t fan_in)
      : random_(hash(name, model.seed)) {
    // Norms around 1; matrices keep the variance of their input. Embeddings of this size, tied or
    // not, give logits with a deviation of about 2: greedy choices are clear, but not trivial.
    const bool embedding = name == "token_embd.weight" || name == "output.weight";
    mean_ = fan_in == 0 ? 1.0f : 0.0f;
    scale_ = fan_in == 0 ? 0.1f : (embedding ? 2.0f : 1.0f) / std::sqrt(float(fan_in));
  }

  std::vector<float> next(uint64_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = mean_ + scale_ * normal(random_);
    return values;
  }

 private:
  Random random_;
  float mean_, scale_;
};

// Adds a tensor that is made while it is written, a piece at a time.
void add(gguf::Writer& writer, const TinyModel& m, const std::string& name, DType type,
         std::vector<uint64_t> shape, uint32_t fan_in) {
  static constexpr uint64_t kPiece = uint64_t{1} << 16;  // values, a multiple of every block
  struct Stream {
    WeightValues values;
    uint64_t left;  // values
    std::vector<uint8_t> piece;
    size_t used = 0;  // bytes of the piece
  };
  uint64_t count = 1;
  for (const uint64_t length : shape) count *= length;
  auto stream = std::make_shared<Stream>(Stream{WeightValues(m, name, fan_in), count, {}});
  const auto source = [stream, type](uint64_t, void* out, uint64_t bytes) {
    auto* to = static_cast<uint8_t*>(out);
    while (bytes > 0) {
      if (stream->used == stream->piece.size()) {
        const uint64_t next = std::min(stream->left, kPiece);
        stream->piece = quantise(type, stream->values.next(next));
        stream->left -= next;
        stream->used = 0;
      }
      const uint64_t step = std::min<uint64_t>(bytes, stream->piece.size() - stream->used);
      std::memcpy(to, stream->piece.data() + stream->used, step);
      stream->used += step;
      to += step;
      bytes -= step;
    }
  };
  writer.add_tensor(name, type, std::move(shape), source);
}

void add_norm(gguf::Writer& writer, const TinyModel& m, const std::string& name) {
  add(writer, m, name, DType::f32, {m.width}, 0);
}

void add_matrix(gguf::Writer& writer, const TinyModel& m, const std::string& name, uint32_t columns,
                uint32_t rows) {
  const uint32_t block = dtype_info(m.type).block_elements;
  if (columns % block != 0) {
    fail(Status::invalid_argument,
         "tiny model: " + name + " has rows of " + std::to_string(columns) + " values; " +
             dtype_info(m.type).name + " needs a multiple of " + std::to_string(block));
  }
  add(writer, m, name, m.type, {columns, rows}, columns);
}

// Llama 3's divisors of the rotation frequencies: 1 where the wavelength is short against the
// original context, `rope_factor` where it is long, a blend between.
std::vector<float> llama3_factors(const TinyModel& m) {
  constexpr double kLow = 1, kHigh = 4;
  const uint32_t dimensions = m.rope_dimensions != 0 ? m.rope_dimensions : m.head_dim;
  std::vector<float> factors;
  for (uint32_t i = 0; i < dimensions; i += 2) {
    const double turns = m.rope_original_context * std::pow(m.rope_base, -1.0 * i / dimensions) /
                         (2 * std::numbers::pi);  // of this pair over the original context
    if (turns > kHigh) {
      factors.push_back(1);
    } else if (turns < kLow) {
      factors.push_back(m.rope_factor);
    } else {
      const double blend = (turns - kLow) / (kHigh - kLow);
      factors.push_back(static_cast<float>(1 / ((1 - blend) / m.rope_factor + blend)));
    }
  }
  return factors;
}

}  // namespace

TinyModel tiny_model_of(DType type) {
  TinyModel model;
  model.type = type;
  if (dtype_info(type).block_elements == 256) {
    model.width = 256;
    model.head_dim = 64;
    model.ffn = 256;
  }
  return model;
}

std::vector<float> tiny_weights(const TinyModel& model, const std::string& name, uint64_t count,
                                uint32_t fan_in) {
  return WeightValues(model, name, fan_in).next(count);
}

void write_tiny_model(const std::string& path, const TinyModel& model) {
  check(model);
  gguf::Writer writer(path);
  set_keys(writer, model);

  const uint32_t q_width = model.heads * model.head_dim;
  const uint32_t kv_width = model.kv_heads * model.head_dim;
  add_matrix(writer, model, "token_embd.weight", model.width, model.vocab);
  std::vector<float> factors;
  if (model.rope_scaling == RopeScaling::llama3) {
    factors = llama3_factors(model);
    writer.add_tensor("rope_freqs.weight", DType::f32, {factors.size()}, factors.data());
  }
  for (uint32_t layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    add_norm(writer, model, prefix + "attn_norm.weight");
    add_matrix(writer, model, prefix + "attn_q.weight", model.width, q_width);
    add_matrix(writer, model, prefix + "attn_k.weight", model.width, kv_width);
    add_matrix(writer, model, prefix + "attn_v.weight", model.width, kv_width);
    add_matrix(writer, model, prefix + "attn_output.weight", q_width, model.width);
    add_norm(writer, model, prefix + "ffn_norm.weight");
    add_matrix(writer, model, prefix + "ffn_gate.weight", model.width, model.ffn);
    add_matrix(writer, model, prefix + "ffn_up.weight", model.width, model.ffn);
    add_matrix(writer, model, prefix + "ffn_down.weight", model.ffn, model.width);
  }
  add_norm(writer, model, "output_norm.weight");
  if (!model.tied) add_matrix(writer, model, "output.weight", model.width, model.vocab);
  writer.finish();
}

}  // namespace tessera::test
