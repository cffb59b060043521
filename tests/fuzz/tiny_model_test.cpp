// The tiny model is complete, deterministic, and what it claims to be.
#include "tests/fuzz/tiny_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "backends/error.hpp"
#include "runtime/gguf/reader.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/temp_folder.hpp"

namespace tessera::test {
namespace {

std::string load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<float> values_of(const gguf::Reader& reader, const std::string& name) {
  const gguf::Tensor* tensor = reader.find_tensor(name);
  if (tensor == nullptr) return {};
  std::vector<uint8_t> data(tensor->bytes);
  reader.read(*tensor, 0, data.data(), data.size());
  uint64_t count = 1;
  for (const uint64_t length : tensor->shape) count *= length;
  return dequantise(tensor->type, data.data(), count);
}

TEST(TinyModel, EveryTypeHasEveryTensor) {
  const TempFolder folder;
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const auto type = static_cast<DType>(t);
    SCOPED_TRACE(dtype_info(type).name);
    TinyModel m = tiny_model_of(type);
    m.tied = t % 2 == 0;
    const std::string path = folder.file("tiny.gguf");
    write_tiny_model(path, m);
    const gguf::Reader reader(path);

    const uint64_t q = uint64_t{m.heads} * m.head_dim, kv = uint64_t{m.kv_heads} * m.head_dim;
    std::map<std::string, std::vector<uint64_t>> shapes = {
        {"token_embd.weight", {m.width, m.vocab}}, {"output_norm.weight", {m.width}}};
    if (!m.tied) shapes["output.weight"] = {m.width, m.vocab};
    for (uint32_t layer = 0; layer < m.layers; ++layer) {
      const std::string blk = "blk." + std::to_string(layer) + ".";
      shapes[blk + "attn_norm.weight"] = shapes[blk + "ffn_norm.weight"] = {m.width};
      shapes[blk + "attn_q.weight"] = {m.width, q};
      shapes[blk + "attn_k.weight"] = shapes[blk + "attn_v.weight"] = {m.width, kv};
      shapes[blk + "attn_output.weight"] = {q, m.width};
      shapes[blk + "ffn_gate.weight"] = shapes[blk + "ffn_up.weight"] = {m.width, m.ffn};
      shapes[blk + "ffn_down.weight"] = {m.ffn, m.width};
    }
    EXPECT_EQ(reader.tensors().size(), shapes.size());
    for (const auto& [name, shape] : shapes) {
      const gguf::Tensor* tensor = reader.find_tensor(name);
      ASSERT_NE(tensor, nullptr) << name;
      EXPECT_EQ(tensor->shape, shape) << name;
      EXPECT_EQ(tensor->type, shape.size() == 1 ? DType::f32 : type) << name;

      // The weights approximate the same fp32 numbers in every type.
      const std::vector<float> values = values_of(reader, name);
      const uint32_t fan_in = shape.size() == 1 ? 0 : static_cast<uint32_t>(shape[0]);
      const std::vector<float> exact = tiny_weights(m, name, values.size(), fan_in);
      double error = 0, power = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        error += std::pow(values[i] - exact[i], 2);
        power += std::pow(exact[i], 2);
      }
      EXPECT_LT(std::sqrt(error / power), 0.1) << name;
    }
  }
}

TEST(TinyModel, BytesDependOnTheConfigurationOnly) {
  const TempFolder folder;
  TinyModel model;
  write_tiny_model(folder.file("a"), model);
  write_tiny_model(folder.file("b"), model);
  EXPECT_EQ(load(folder.file("a")), load(folder.file("b")));
  model.seed = 2;
  write_tiny_model(folder.file("b"), model);
  EXPECT_NE(load(folder.file("a")), load(folder.file("b")));
}

TEST(TinyModel, KeysFollowTheConfiguration) {
  const TempFolder folder;
  TinyModel model;
  model.head_dim = 32;  // heads * head_dim is not width
  model.rope_scaling = RopeScaling::yarn;
  write_tiny_model(folder.file("yarn"), model);
  const gguf::Reader yarn(folder.file("yarn"));
  EXPECT_EQ(yarn.get_string("general.architecture"), "llama");
  EXPECT_EQ(yarn.get_uint("llama.attention.key_length"), 32u);
  EXPECT_EQ(yarn.get_uint("llama.rope.dimension_count"), 32u);
  EXPECT_EQ(yarn.get_string("llama.rope.scaling.type"), "yarn");
  EXPECT_EQ(yarn.get_uint("llama.rope.scaling.original_context_length"), 256u);
  EXPECT_EQ(yarn.find_tensor("rope_freqs.weight"), nullptr);

  model = TinyModel();
  model.rope_scaling = RopeScaling::llama3;
  write_tiny_model(folder.file("llama3"), model);
  const gguf::Reader llama3(folder.file("llama3"));
  EXPECT_EQ(llama3.find("llama.rope.scaling.type"), nullptr);
  EXPECT_EQ(llama3.find("llama.attention.key_length"), nullptr);
  const std::vector<float> factors = values_of(llama3, "rope_freqs.weight");
  ASSERT_EQ(factors.size(), 8u);
  EXPECT_EQ(factors.front(), 1.0f);  // fast pairs keep their frequency
  EXPECT_EQ(factors.back(), 4.0f);   // slow ones are divided by the factor
  EXPECT_TRUE(std::is_sorted(factors.begin(), factors.end()));
}

TEST(TinyModel, MergesUseEarlierTokens) {
  for (const uint32_t size : {300u, 320u, 1000u}) {
    const TinyVocabulary vocabulary = tiny_vocabulary(size);
    ASSERT_EQ(vocabulary.tokens.size(), size);
    ASSERT_EQ(vocabulary.types.size(), size);
    EXPECT_EQ(std::set(vocabulary.tokens.begin(), vocabulary.tokens.end()).size(), size);
    EXPECT_EQ(std::count(vocabulary.types.begin(), vocabulary.types.end(), 3), 3);
    EXPECT_EQ(vocabulary.tokens[3 + 'A' - '!'], "A");
    std::set<std::string> known(vocabulary.tokens.begin() + 3, vocabulary.tokens.begin() + 259);
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const std::string& merge = vocabulary.merges[i];
      const size_t gap = merge.find(' ');
      const std::string left = merge.substr(0, gap), right = merge.substr(gap + 1);
      EXPECT_TRUE(known.count(left) == 1 && known.count(right) == 1) << merge;
      EXPECT_EQ(vocabulary.tokens[259 + i], left + right);
      known.insert(left + right);
    }
  }
}

TEST(TinyModel, ImpossibleSizesAreRefused) {
  const TempFolder folder;
  std::vector<TinyModel> bad(6);
  bad[0].vocab = 299;
  bad[1].kv_heads = 3;
  bad[2].head_dim = 15;
  bad[3].layers = 0;
  bad[4].type = DType::q4_k;  // needs rows of 256
  bad[5].kv_heads = 0;
  for (const TinyModel& model : bad) {
    EXPECT_THROW(write_tiny_model(folder.file("bad"), model), Error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace tessera::test
