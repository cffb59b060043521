// Layers in several groups, each with pages of its own: what sessions see is the same.
#include "runtime/engine/context.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class LayerGroups : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    load_model(GetParam());  // registers the devices
    model::LoadOptions options;
    options.device = GetParam();
    model_ = std::make_shared<model::Model>(model_path(), options);
  }

  // A context whose layers are split into groups of one layer each, or not.
  std::unique_ptr<engine::Context> context(bool split, uint64_t budget) const {
    engine::ContextOptions options;
    options.page_size = 8;
    options.threads = 1;
    options.max_step_tokens = 16;
    options.kv_budget = budget;
    if (split) {
      const LayerGroup all = model_->architecture().layer_groups().front();
      for (const uint32_t layer : all.layers) {
        options.groups.push_back({{layer}, all.kv_heads, all.head_dim, all.window});
      }
    }
    return std::make_unique<engine::Context>(model_, options);
  }

  static std::vector<int32_t> tokens(uint64_t count, uint64_t seed) {
    Random random(seed);
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = static_cast<int32_t>(3 + random.below(250));
    return ids;
  }

  std::shared_ptr<model::Model> model_;
};
TESSERA_ON_EACH_DEVICE(LayerGroups);

TEST_P(LayerGroups, SplitLayersComputeTheSame) {
  std::vector<std::vector<float>> logits;
  for (const bool split : {false, true}) {
    const auto context = this->context(split, 1 << 20);
    const kv::CanonicalRef chunk = context->create_chunk(tokens(19, 1), false);
    EXPECT_TRUE(context->wait_chunk(chunk, false, -1));
    for (const bool text_first : {false, true}) {
      const engine::SessionRef session = context->create_session({});
      if (text_first) context->add_tokens(*session, tokens(11, 2));
      context->add_chunk(*session, chunk);
      context->add_tokens(*session, tokens(21, 3));
      logits.push_back(context->evaluate(*session, false));
      context->close_session(*session);
    }
    EXPECT_EQ(context->metrics().page_bytes, 8 * kTokenBytes) << "of all groups together";
    EXPECT_EQ(context->metrics().pages_used, context->metrics().pages_cached);
  }
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_EQ(logits[1], logits[3]);
  EXPECT_NE(logits[0], logits[1]);
}

// Pages of all groups come and go together.
TEST_P(LayerGroups, EvictionKeepsGroupsInStep) {
  const auto context = this->context(true, 6 * 8 * kTokenBytes);
  EXPECT_EQ(context->metrics().pages_total, 6u);
  std::vector<float> first;
  for (uint64_t i = 0; i < 12; ++i) {
    const engine::SessionRef session = context->create_session({});
    context->add_tokens(*session, tokens(40, i % 3));
    const std::vector<float> logits = context->evaluate(*session, false);
    if (i == 0) first = logits;
    if (i % 3 == 0) {
      EXPECT_EQ(logits, first);
    } else {
      EXPECT_NE(logits, first);
    }
    context->close_session(*session);
  }
  EXPECT_LE(context->metrics().pages_peak, 6u);
}

}  // namespace
}  // namespace tessera::test
