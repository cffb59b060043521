// A graph and a step in which every field has a value of its own.
#pragma once

#include "backends/graph.hpp"
#include "backends/step.hpp"

namespace tessera::remote::test {

// `weight(i)` gives the i-th of 11 weights.
template <class WeightOf>
Graph sample_graph(WeightOf weight) {
  Graph graph;
  graph.widths = {128, 64, 32};
  graph.vocabulary = 1000;
  graph.ropes = {{.frequencies = {1.0, 0.1}, .magnitude = 1.25, .pairing = RopePairing::halves},
                 {.frequencies = {0.5}}};
  AttentionShape shape{
      .layer = 3, .heads = 8, .kv_heads = 2, .head_dim = 16, .rope = 1, .key_form = KeyForm::local};
  graph.ops.push_back(Embed{.table = weight(0), .scale = 0.5f, .out = 1});
  graph.ops.push_back(NormQkv{.in = 2,
                              .norm = weight(1),
                              .wq = weight(2),
                              .wk = weight(3),
                              .wv = weight(4),
                              .epsilon = 1e-5f,
                              .shape = shape,
                              .out = 4});
  shape.layer = 6;
  shape.key_form = KeyForm::unrotated;
  graph.ops.push_back(
      SpanAttention{.in = 5, .scale = 0.25f, .shape = shape, .out = 7, .log_sum = 14});
  graph.ops.push_back(AttentionMass{.in = 15, .log_sum = 16, .scale = 0.125f, .shape = shape});
  graph.ops.push_back(LinearResidual{.in = 8, .w = weight(5), .residual = 9, .out = 10});
  graph.ops.push_back(NormGatedFfn{.in = 11,
                                   .norm = weight(6),
                                   .gate = weight(7),
                                   .up = weight(8),
                                   .epsilon = 1e-6f,
                                   .activation = Activation::silu,
                                   .out = 12});
  graph.ops.push_back(Logits{.in = 13, .norm = weight(9), .head = weight(10), .epsilon = 1e-4f});
  return graph;
}

inline Step sample_step() {
  Step step;
  step.tokens = {1, 2, -3};
  step.positions = {4, 5, 6};
  step.key_positions = {7, -8, 9};
  step.sequence_of = {10, 11, 12};
  step.store_entries = {13, 14, 15};
  step.store_slots = {16, 17, 18};
  step.sequences = {{19, 20}, {21, 22}};
  step.spans = {{.first_entry = 23, .slots = 24, .logical_start = -25, .frame_start = 26}};
  step.page_tables = {{27, 28}, {}, {29}};
  step.masks = {~uint64_t{0}, 30};
  step.slot_positions = {31};
  step.logits = {{.row = 32,
                  .top_k = 33,
                  .full = true,
                  .temperature = 0.75f,
                  .first_adjustment = 34,
                  .adjustment_count = 35,
                  .first_mask_word = 36},
                 {}};
  step.adjustments = {{.token = 37, .penalty = 1.5f, .subtract = -2.5f}};
  step.token_masks = {38, 39};
  step.mass_requests = {{.sequence = 40, .first_row = 41, .rows = 42, .first_layer = 43}};
  return step;
}

}  // namespace tessera::remote::test
