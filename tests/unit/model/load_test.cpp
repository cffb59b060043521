// Whole models: what loads, and what the message says where one does not.
#include <gtest/gtest.h>

#include <limits>

#include "runtime/model/model.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/model/edited_model.hpp"

namespace tessera::model {
namespace {

using test::expect_error;

LoadOptions on_cpu() {
  LoadOptions options;
  options.device = "cpu";
  return options;
}

TEST(FindArchitecture, NamesWhatIsKnown) {
  EXPECT_EQ(find_architecture("llama", "m.gguf").name, "llama");
  for (const char* name : {"mamba", "", "LLAMA", "llama2"}) {
    expect_error(Status::unsupported, {"m.gguf", "general.architecture", name, "llama"},
                 [&] { find_architecture(name, "m.gguf"); });
  }
}

TEST(LoadModel, TiedAndUntied) {
  test::TinyModel tiny;
  const uint64_t layer = 64 * (64 + 32 + 32) + 64 * 64 + 3 * 64 * 128 + 2 * 64;
  const uint64_t tied = 320 * 64 + 2 * layer + 64;
  for (const bool is_tied : {true, false}) {
    tiny.tied = is_tied;
    test::EditedModel file(tiny);
    const Model model(file.path(), on_cpu());
    EXPECT_EQ(model.architecture().parameters(), is_tied ? tied : tied + 320 * 64);
    EXPECT_GE(model.architecture().device_bytes(), model.architecture().parameters() * 4);
    EXPECT_EQ(model.weight_type(), "F32");
    EXPECT_EQ(model.hyperparameters().vocabulary, 320u);

    const Graph graph = model.architecture().build_graph({});
    EXPECT_EQ(graph.ops.size(), 2u + 6 * 2);
    EXPECT_EQ(graph.vocabulary, 320u);
    const auto& embed = std::get<Embed>(graph.ops.front());
    const auto& logits = std::get<Logits>(graph.ops.back());
    EXPECT_EQ(embed.table == logits.head, is_tied);
  }
}

TEST(LoadModel, GraphFollowsTheKeyForm) {
  test::EditedModel file;
  const Model model(file.path(), on_cpu());
  for (const KeyForm form : {KeyForm::local, KeyForm::unrotated}) {
    int seen = 0;
    for (const Op& op : model.architecture().build_graph({form}).ops) {
      if (const auto* qkv = std::get_if<NormQkv>(&op)) seen += qkv->shape.key_form == form;
      if (const auto* span = std::get_if<SpanAttention>(&op)) seen += span->shape.key_form == form;
    }
    EXPECT_EQ(seen, 4);
  }
  const std::vector<LayerGroup> groups = model.architecture().layer_groups();
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].layers, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(groups[0].kv_heads, 2u);
  EXPECT_EQ(groups[0].head_dim, 16u);
  EXPECT_EQ(groups[0].window, 0u);
}

class LoadErrors : public testing::Test {
 protected:
  void expect(Status status, const std::vector<std::string>& named, const test::Edit& edit) {
    const std::string path = file_.with(edit);
    expect_error(status, named, [&] { Model(path, on_cpu()); });
  }
  test::EditedModel file_;
};

TEST_F(LoadErrors, Architecture) {
  expect(Status::unsupported, {".gguf", "general.architecture", "mamba", "llama"},
         {.set = {{"general.architecture", "mamba"}}});
  expect(Status::corrupt_file, {".gguf", "general.architecture"},
         {.drop_keys = {"general.architecture"}});
}

// What is told before any tensor is looked for.
TEST_F(LoadErrors, OtherKindsOfModels) {
  const std::set<std::string> dense = {"blk.0.ffn_up.weight", "blk.1.ffn_up.weight"};
  expect(Status::unsupported, {".gguf", "llama.expert_count"},
         {.set = {{"llama.expert_count", 8u}}, .drop_tensors = dense});
  expect(Status::unsupported, {".gguf", "split.count", "2"},
         {.set = {{"split.count", uint16_t{2}}}, .drop_tensors = dense});
  EXPECT_NO_THROW(Model(file_.with({.set = {{"split.count", uint16_t{1}}}}), on_cpu()));
}

TEST_F(LoadErrors, Tensors) {
  expect(Status::corrupt_file, {".gguf", "blk.1.ffn_up.weight", "missing"},
         {.drop_tensors = {"blk.1.ffn_up.weight"}});
  expect(Status::corrupt_file, {".gguf", "output_norm.weight", "[32]", "[64]"},
         {.put = {{"output_norm.weight", {{32}, std::vector<float>(32)}}}});
  expect(Status::corrupt_file, {".gguf", "blk.2.attn_norm.weight"},
         {.set = {{"llama.block_count", 3u}}});
  // Biases, and layers that the keys do not speak of: without them the answers would be wrong.
  expect(Status::unsupported, {".gguf", "blk.0.attn_q.bias"},
         {.put = {{"blk.0.attn_q.bias", {{64}, std::vector<float>(64)}}}});
  expect(Status::unsupported, {".gguf", "blk.1."}, {.set = {{"llama.block_count", 1u}}});
}

TEST_F(LoadErrors, RopeDivisors) {
  const auto divisors = [](std::vector<float> values) {
    const uint64_t count = values.size();
    return test::Edit{.put = {{"rope_freqs.weight", {{count}, std::move(values)}}}};
  };
  std::vector<float> values(8, 1.0f);
  EXPECT_NO_THROW(Model(file_.with(divisors(values)), on_cpu()));
  expect(Status::corrupt_file, {"rope_freqs.weight", "[4]", "[8]"}, divisors({1, 1, 1, 1}));
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    values[5] = bad;
    expect(Status::corrupt_file, {".gguf", "rope_freqs.weight", "positive"}, divisors(values));
  }
}

TEST_F(LoadErrors, DevicesAndFiles) {
  LoadOptions warp;
  warp.device = "warp";
  expect_error(Status::not_found, {"warp"}, [&] { Model(file_.path(), warp); });
  expect_error(Status::not_found, {"nowhere.gguf"}, [&] { Model("nowhere.gguf", {}); });
}

}  // namespace
}  // namespace tessera::model
