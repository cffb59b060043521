#include "runtime/model/hyperparameters.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/gguf/reader.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/model/edited_model.hpp"

namespace tessera::model {
namespace {

using test::expect_error;

constexpr uint32_t kVocabulary = 320;

class ReadHyperparameters : public testing::Test {
 protected:
  Hyperparameters read(const test::Edit& edit, uint32_t vocabulary = kVocabulary) {
    const gguf::Reader reader(model_.with(edit));
    return read_hyperparameters(reader, vocabulary);
  }
  void expect_corrupt(const std::string& key, const gguf::Value& value) {
    SCOPED_TRACE(key);
    expect_error(Status::corrupt_file, {".gguf", key}, [&] { read({.set = {{key, value}}}); });
  }
  test::EditedModel model_;
};

TEST_F(ReadHyperparameters, TakesTheFilesNumbers) {
  const Hyperparameters h = read({.set = {{"llama.attention.key_length", 24u},
                                          {"llama.attention.value_length", 24u},
                                          {"llama.rope.dimension_count", 8u},
                                          {"llama.rope.freq_base", 5e5f},
                                          {"llama.attention.layer_norm_rms_epsilon", 1e-3f}}});
  EXPECT_EQ(h.architecture, "llama");
  EXPECT_EQ(h.name, "tiny");
  EXPECT_EQ(h.layers, 2u);
  EXPECT_EQ(h.width, 64u);
  EXPECT_EQ(h.heads, 4u);
  EXPECT_EQ(h.kv_heads, 2u);
  EXPECT_EQ(h.head_dim, 24u);
  EXPECT_EQ(h.ffn_width, 128u);
  EXPECT_EQ(h.vocabulary, kVocabulary);
  EXPECT_EQ(h.context_length, 1024u);
  EXPECT_EQ(h.rope_dims, 8u);
  EXPECT_EQ(h.rope_base, 5e5);
  EXPECT_EQ(h.norm_epsilon, 1e-3f);
}

TEST_F(ReadHyperparameters, Defaults) {
  const Hyperparameters h =
      read({.drop_keys = {"general.name", "llama.attention.head_count_kv", "llama.vocab_size",
                          "llama.rope.dimension_count", "llama.rope.freq_base",
                          "llama.attention.layer_norm_rms_epsilon"}});
  EXPECT_EQ(h.name, "");
  EXPECT_EQ(h.kv_heads, h.heads);
  EXPECT_EQ(h.head_dim, 16u);
  EXPECT_EQ(h.rope_dims, 16u);
  EXPECT_EQ(h.rope_base, 10000.0);
  EXPECT_EQ(h.norm_epsilon, 1e-5f);
}

TEST_F(ReadHyperparameters, MissingKeysAreNamed) {
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length",
                          "context_length", "attention.head_count"}) {
    const std::string name = std::string("llama.") + key;
    expect_error(Status::corrupt_file, {".gguf", name}, [&] { read({.drop_keys = {name}}); });
  }
}

TEST_F(ReadHyperparameters, CountsAreBounded) {
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length",
                          "context_length", "attention.head_count", "attention.head_count_kv",
                          "attention.key_length", "rope.dimension_count", "vocab_size"}) {
    const std::string name = std::string("llama.") + key;
    expect_corrupt(name, 0u);
    expect_corrupt(name, std::numeric_limits<uint64_t>::max());
    expect_corrupt(name, int32_t{-1});
    expect_corrupt(name, "many");
  }
}

TEST_F(ReadHyperparameters, Contradictions) {
  expect_corrupt("llama.attention.head_count_kv", 3u);  // does not divide 4
  expect_corrupt("llama.attention.head_count_kv", 8u);  // more than heads
  expect_corrupt("llama.attention.value_length", 32u);  // differs from the key length 16
  expect_corrupt("llama.rope.dimension_count", 18u);    // more than the head has
  expect_corrupt("llama.rope.dimension_count", 7u);     // odd
  expect_corrupt("llama.vocab_size", kVocabulary + 1);  // differs from the tokenizer's
}

// Each within its bound, but not the product, which does not fit 32 bits either.
TEST_F(ReadHyperparameters, AllHeadsTogetherAreBounded) {
  const auto heads_of = [](uint32_t heads, uint32_t length) {
    return test::Edit{.set = {{"llama.attention.head_count", heads},
                              {"llama.attention.head_count_kv", 1u},
                              {"llama.attention.key_length", length},
                              {"llama.attention.value_length", length},
                              {"llama.rope.dimension_count", 8u}}};
  };
  for (const auto& [heads, length] :
       {std::pair{65536u, 65537u}, {65536u, 65536u}, {4096u, 4097u}}) {
    expect_error(Status::corrupt_file,
                 {".gguf", "llama.attention.key_length", "attention.head_count", "16777216"},
                 [&] { read(heads_of(heads, length)); });
  }
  EXPECT_EQ(read(heads_of(4096, 4096)).head_dim, 4096u);
}

TEST_F(ReadHyperparameters, MixturesOfExpertsAreNotSupported) {
  expect_error(Status::unsupported, {".gguf", "llama.expert_count", "8"}, [&] {
    read({.set = {{"llama.expert_count", 8u}}});
  });
  EXPECT_EQ(read({.set = {{"llama.expert_count", 0u}}}).layers, 2u);
}

TEST_F(ReadHyperparameters, RealNumbersArePositiveAndFinite) {
  for (const char* key : {"llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"}) {
    expect_corrupt(key, 0.0f);
    expect_corrupt(key, -1e-5f);
    expect_corrupt(key, std::numeric_limits<float>::infinity());
    expect_corrupt(key, std::numeric_limits<double>::quiet_NaN());
    expect_corrupt(key, 1u);
    // In range for f64, but not for the fp32 that is computed in.
    expect_corrupt(key, 1e-60);
    expect_corrupt(key, 1e-40);
    expect_corrupt(key, 1e60);
  }
}

}  // namespace
}  // namespace tessera::model
