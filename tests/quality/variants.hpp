// The tiny models that the oracle has golden files for: each form of RoPE, attention group, head
// and weight type. A changed or new one needs a new golden file (docs/accuracy.md).
#pragma once

#include <string>
#include <vector>

#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {

struct Variant {
  std::string name;
  TinyModel model;
};

inline std::vector<Variant> oracle_variants() {
  std::vector<Variant> all;
  const auto add = [&](const std::string& name, TinyModel model) -> TinyModel& {
    model.seed = all.size() + 1;
    all.push_back({name, model});
    return all.back().model;
  };
  const auto shape = [](uint32_t heads, uint32_t kv_heads, uint32_t head_dim) {
    TinyModel model;
    model.heads = heads;
    model.kv_heads = kv_heads;
    model.head_dim = head_dim;
    return model;
  };
  // Groups of 1, 3 and 8 query heads; the heads together are wider or narrower than the stream.
  add("group1-linear", shape(4, 4, 16)).rope_scaling = RopeScaling::linear;
  add("group3-yarn", shape(6, 2, 24)).rope_scaling = RopeScaling::yarn;
  add("group8-llama3", shape(8, 1, 32)).rope_scaling = RopeScaling::llama3;
  add("untied", shape(3, 1, 16)).tied = false;
  TinyModel& partial = add("partial-rope", shape(4, 2, 16));
  partial.rope_dimensions = 8;
  partial.rope_base = 500.0f;
  partial.rms_epsilon = 0.1f;
  for (const DType type : {DType::f16, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0,
                           DType::q5_1, DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k}) {
    add(std::string("type-") + dtype_info(type).name, tiny_model_of(type));
  }
  return all;
}

}  // namespace tessera::test
