// Embed, LinearResidual, NormGatedFfn and Logits against the reference: every weight type, row
// counts around the tile sizes of kernels.
#include <algorithm>
#include <cmath>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::kTokens;
using test::Rig;
using test::WeightSource;

constexpr uint32_t kRowCounts[] = {1, 2, 3, 5, 16, 33};

// A layout for graphs without attention.
KvLayout any_layout() {
  return test::one_group(KvType::f32, 8, {0}, 1, 4);
}

// `rows` rows of different tokens, one sequence, stores to slots that nothing reads.
Step plain_step(uint32_t rows) {
  const std::vector<std::vector<test::SpanSpec>> sequences = {
      {{.pages = {0, 1, 2, 3, 4, 5}, .slots = 48}}};
  std::vector<test::RowSpec> specs;
  test::add_rows(specs, sequences, 0, 0, 0, rows, rows);
  return test::make_step(any_layout(), sequences, specs);
}

void run_all_row_counts(Backend& backend, const test::GraphBuilder& build, double tolerance) {
  Rig rig(backend, build, any_layout(), 6);
  for (const uint32_t rows : kRowCounts) {
    SCOPED_TRACE(std::to_string(rows) + " rows");
    rig.run(plain_step(rows), tolerance);
    if (testing::Test::HasFatalFailure()) return;
  }
}

class LinearConformance : public test::ConformanceTest {};

TEST_P(LinearConformance, EmbedOfEveryType) {
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const DType type = static_cast<DType>(t);
    SCOPED_TRACE(dtype_info(type).name);
    run_all_row_counts(
        *backend,
        [type](WeightSource& source) {
          Graph graph;
          graph.vocabulary = 256;
          const Value x = graph.add_value(256);
          graph.ops.push_back(Embed{source.random("table", type, 256, 256, 1), 1.5f, x});
          test::show(graph, source, x);
          return graph;
        },
        tolerance(1e-6, type));
  }
}

TEST_P(LinearConformance, LinearResidualOfEveryType) {
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const DType type = static_cast<DType>(t);
    SCOPED_TRACE(dtype_info(type).name);
    run_all_row_counts(
        *backend,
        [type](WeightSource& source) {
          Graph graph;
          graph.vocabulary = 512;
          const Value x = graph.add_value(512), y = graph.add_value(512);
          graph.ops.push_back(Embed{source.random("table", DType::f32, 512, 512, 1), 1, x});
          graph.ops.push_back(LinearResidual{x, source.random("w", type, 512, 512, 0.1), x, y});
          test::show(graph, source, y);
          return graph;
        },
        tolerance(1e-5, type));
  }
}

// Widths that no tile divides, and an output written over its residual.
TEST_P(LinearConformance, OddWidthsInPlace) {
  for (const auto& [in, out] : {std::pair(20u, 1u), {33u, 7u}, {100u, 37u}, {7u, 65u}}) {
    SCOPED_TRACE(std::to_string(in) + " to " + std::to_string(out));
    run_all_row_counts(
        *backend,
        [in = in, out = out](WeightSource& source) {
          Graph graph;
          graph.vocabulary = 128;
          const Value a = graph.add_value(out), b = graph.add_value(in), c = graph.add_value(in);
          graph.ops.push_back(Embed{source.random("t", DType::f32, 128, out, 1), 1, a});
          const Weight* norm = source.random("norm", DType::f32, 1, out, 1);
          graph.ops.push_back(NormGatedFfn{a, norm, source.random("g", DType::f32, in, out, 1),
                                           source.random("u", DType::f32, in, out, 1), 1e-5f,
                                           Activation::silu, b});
          graph.ops.push_back(NormGatedFfn{a, norm, source.random("g2", DType::f16, in, out, 1),
                                           source.random("u2", DType::bf16, in, out, 1), 1e-5f,
                                           Activation::silu, c});
          graph.ops.push_back(
              LinearResidual{b, source.random("w", DType::f32, out, in, 0.2), a, a});
          graph.ops.push_back(
              LinearResidual{c, source.random("w2", DType::f16, out, in, 0.2), a, a});
          test::show(graph, source, a);
          return graph;
        },
        tolerance(1e-5));
  }
}

Graph gated_ffn(WeightSource& source, DType gate, DType up) {
  Graph graph;
  graph.vocabulary = 300;
  const Value x = graph.add_value(256), y = graph.add_value(300);
  graph.ops.push_back(Embed{source.random("table", DType::f32, 300, 256, 2), 1, x});
  graph.ops.push_back(NormGatedFfn{
      x, source.random("norm", DType::f32, 1, 256, 2), source.random("gate", gate, 300, 256, 0.5),
      source.random("up", up, 300, 256, 0.5), 1e-5f, Activation::silu, y});
  test::show(graph, source, y);
  return graph;
}

TEST_P(LinearConformance, NormGatedFfnOfEveryType) {
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const DType type = static_cast<DType>(t);
    SCOPED_TRACE(dtype_info(type).name);
    run_all_row_counts(
        *backend, [type](WeightSource& source) { return gated_ffn(source, type, type); },
        tolerance(2e-5, type));
  }
}

// Weights of one op that are multiplied with rows of different forms.
TEST_P(LinearConformance, MixedTypesInAnOp) {
  constexpr std::pair<DType, DType> kTypes[] = {{DType::f16, DType::q8_0},
                                                {DType::q6_k, DType::bf16},
                                                {DType::f32, DType::f16},
                                                {DType::q4_k, DType::f32}};
  for (const auto& [gate, up] : kTypes) {
    SCOPED_TRACE(std::string(dtype_info(gate).name) + " and " + dtype_info(up).name);
    run_all_row_counts(
        *backend,
        [gate = gate, up = up](WeightSource& source) { return gated_ffn(source, gate, up); },
        std::max(tolerance(2e-5, gate), tolerance(2e-5, up)));
  }
}

// Activations far out on both sides of silu.
TEST_P(LinearConformance, LargeGates) {
  run_all_row_counts(
      *backend,
      [](WeightSource& source) {
        Graph graph;
        graph.vocabulary = kTokens;
        const Value x = graph.add_value(32), y = graph.add_value(48);
        graph.ops.push_back(Embed{source.random("table", DType::f32, kTokens, 32, 1), 1, x});
        graph.ops.push_back(NormGatedFfn{x, source.random("norm", DType::f32, 1, 32, 60),
                                         source.random("gate", DType::f32, 48, 32, 1),
                                         source.random("up", DType::f32, 48, 32, 1), 1e-5f,
                                         Activation::silu, y});
        test::show(graph, source, y);
        return graph;
      },
      tolerance(2e-5));
}

Graph head_of(WeightSource& source, DType type) {
  Graph graph;
  graph.vocabulary = 1000;
  const Value x = graph.add_value(256);
  graph.ops.push_back(Embed{source.random("table", type, 1000, 256, 3), 1, x});
  graph.ops.push_back(Logits{x, source.random("norm", DType::f32, 1, 256, 1),
                             source.random("head", type, 1000, 256, 0.5), 1e-6f});
  return graph;
}

TEST_P(LinearConformance, LogitsOfEveryType) {
  for (size_t t = 0; t < kDTypeCount; ++t) {
    SCOPED_TRACE(kDTypeInfo[t].name);
    run_all_row_counts(
        *backend, [t](WeightSource& source) { return head_of(source, static_cast<DType>(t)); },
        tolerance(2e-5, static_cast<DType>(t)));
  }
}

// Adjustments, masks, top-k and log-sum-exp, different in every request; several requests for one
// row, none for others.
TEST_P(LinearConformance, LogitsRequests) {
  const auto build = [](WeightSource& source) { return head_of(source, DType::q8_0); };
  Step step = plain_step(8);
  step.logits = {
      {.row = 7, .top_k = 5, .temperature = 0.7f},
      {.row = 2, .top_k = 1000, .full = true},
      {.row = 2, .top_k = 1, .full = true, .first_adjustment = 0, .adjustment_count = 3},
      {.row = 0, .top_k = 20, .full = true, .first_mask_word = 0},
      {.row = 5,
       .top_k = 30,
       .full = true,
       .temperature = 1.5f,
       .first_adjustment = 1,
       .adjustment_count = 4,
       .first_mask_word = 32},
      {.row = 3, .top_k = 2, .full = true, .first_mask_word = 64},
      {.row = 4},
  };
  step.adjustments = {{5, 1.3f, 0.5f}, {7, 0.7f, -2}, {999, 2, 0}, {0, 1, 100}, {123, 1, -100}};
  for (uint32_t w = 0; w < 32; ++w) step.token_masks.push_back(0x5555aaaa >> (w % 3));
  for (uint32_t w = 0; w < 32; ++w) step.token_masks.push_back(w == 3 ? 0xf0f : 0);  // 8 allowed
  step.token_masks.resize(96, 0);                                                    // none
  Rig rig(*backend, build, any_layout(), 6);
  rig.run(step, tolerance(2e-5, DType::q8_0));
  if (HasFatalFailure()) return;

  const StepResult got = rig.device.run(step);
  const std::vector<test::ReferenceLogits> want = rig.reference.run(step);
  for (size_t i = 0; i < want.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    const LogitsResult& result = got.logits[i];
    if (std::isfinite(want[i].log_sum_exp)) {
      EXPECT_NEAR(result.log_sum_exp, want[i].log_sum_exp, tolerance(2e-4, DType::q8_0) * 10);
    } else {
      EXPECT_EQ(result.log_sum_exp, -INFINITY);
    }
    const double sum = want[i].weight_sum;
    EXPECT_NEAR(result.weight_sum, sum, tolerance(2e-4, DType::q8_0) * 10 * sum);
    if (step.logits[i].temperature > 0 && step.logits[i].full) {
      double total = 0;
      for (const float weight : result.full) total += double{weight};
      EXPECT_NEAR(result.weight_sum, total, 1e-5 * total);
      EXPECT_EQ(result.full[static_cast<size_t>(result.top[0].token)], 1);
    }
    ASSERT_EQ(result.top.size(), step.logits[i].top_k);
    for (size_t k = 0; k < result.top.size(); ++k) {
      // Where rounding may swap two, the values must still agree.
      const double logit = want[i].top[k].second;
      if (std::isfinite(logit)) {
        EXPECT_NEAR(result.top[k].logit, logit, tolerance(2e-4, DType::q8_0) * 10);
      } else {
        EXPECT_EQ(result.top[k].logit, -INFINITY);
      }
      if (step.logits[i].full && step.logits[i].temperature == 0) {
        EXPECT_EQ(result.full[static_cast<size_t>(result.top[k].token)], result.top[k].logit);
      }
      if (k > 0) {
        const TokenLogit &a = result.top[k - 1], &b = result.top[k];
        EXPECT_TRUE(a.logit > b.logit || (a.logit == b.logit && a.token < b.token));
      }
    }
  }
  EXPECT_TRUE(got.logits[0].full.empty());
  EXPECT_TRUE(got.logits[6].top.empty());
}

// Equal logits come in the order of their ids.
TEST_P(LinearConformance, TiesGoToTheLowerId) {
  const auto build = [](WeightSource& source) {
    Graph graph;
    graph.vocabulary = 100;
    const Value x = graph.add_value(4);
    graph.ops.push_back(Embed{source.given("t", 100, 4, std::vector(400, 1.0f)), 1, x});
    std::vector<float> head(400, 0.25f);
    for (uint32_t t = 0; t < 100; ++t) head[t * 4] = static_cast<float>(t % 3);
    graph.ops.push_back(Logits{x, source.given("n", 1, 4, std::vector(4, 1.0f)),
                               source.given("h", 100, 4, head), 1e-6f});
    return graph;
  };
  Step step = plain_step(1);
  step.logits = {{.row = 0, .top_k = 40}};
  test::Device device(*backend, build, any_layout(), 6);
  const std::vector<TokenLogit> top = device.run(step).logits[0].top;
  ASSERT_EQ(top.size(), 40u);
  for (int k = 0; k < 33; ++k) EXPECT_EQ(top[static_cast<size_t>(k)].token, 3 * k + 2);
  for (int k = 33; k < 40; ++k) EXPECT_EQ(top[static_cast<size_t>(k)].token, 3 * (k - 33) + 1);
}

TESSERA_ON_EVERY_DEVICE(LinearConformance);

}  // namespace
}  // namespace tessera
