// random_model SHAPE TYPE FILE [LAYERS]: a model of random weights, to measure speed with. All
// matrices are of TYPE; LAYERS instead of the shape's own makes a small one for tests.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <optional>
#include <string_view>

#include "tests/fuzz/tiny_model.hpp"

namespace {

using tessera::DType;
using tessera::test::TinyModel;

constexpr char kUsage[] =
    "usage: random_model 135M|1B|tiny TYPE FILE [LAYERS]\n"
    "  135M  SmolLM2-135M: 30 layers, width 576 (768 for types with blocks of 256 weights)\n"
    "  1B    Llama-3.2-1B: 16 layers, width 2048\n"
    "  tiny  two layers, width 64, for what does not depend on a model's size\n"
    "  TYPE  as GGUF tools print it: Q4_1, Q8_0, Q4_K, F16, ...\n";

std::optional<DType> type_named(std::string_view name) {
  for (size_t i = 0; i < tessera::kDTypeCount; ++i) {
    if (name == tessera::kDTypeInfo[i].name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

TinyModel smollm2_135m(DType type) {
  TinyModel model;
  model.layers = 30;
  model.heads = 9;
  model.kv_heads = 3;
  model.ffn = 1536;
  model.vocab = 49152;
  model.rope_base = 100000;
  // 576 is no multiple of 256: three more heads for those types, everything else the same.
  if (tessera::dtype_info(type).block_elements == 256) model.heads = 12;
  return model;
}

TinyModel llama_1b() {
  TinyModel model;
  model.layers = 16;
  model.heads = 32;
  model.kv_heads = 8;
  model.ffn = 8192;
  model.vocab = 128256;
  model.rope_base = 500000;
  return model;
}

std::optional<TinyModel> model_of(std::string_view shape, DType type) {
  TinyModel model;
  if (shape == "tiny") {
    model.head_dim = 32;  // a block of Q8_0
  } else if (shape == "135M") {
    model = smollm2_135m(type);
  } else if (shape == "1B") {
    model = llama_1b();
  } else {
    return std::nullopt;
  }
  if (shape != "tiny") {
    model.head_dim = 64;
    model.width = model.heads * model.head_dim;
  }
  model.context = 8192;
  model.type = type;
  return model;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 || argc == 5) {
    const std::optional<DType> type = type_named(argv[2]);
    std::optional<TinyModel> model = type ? model_of(argv[1], *type) : std::nullopt;
    if (model && argc == 5) {
      const std::string_view text = argv[4];
      const auto end = std::from_chars(text.data(), text.data() + text.size(), model->layers);
      if (end.ec != std::errc() || end.ptr != text.data() + text.size()) model.reset();
    }
    if (model) {
      try {
        tessera::test::write_tiny_model(argv[3], *model);
        return 0;
      } catch (const std::exception& error) {
        std::fprintf(stderr, "random_model: %s\n", error.what());
        return 1;
      }
    }
  }
  std::fputs(kUsage, stderr);
  return 2;
}
