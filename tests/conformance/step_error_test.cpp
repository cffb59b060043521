// Malformed graphs, layouts and steps are refused with a status and a message that names the field,
// and leave the program usable.
#include <cmath>
#include <limits>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::SpanSpec;
using test::WeightSource;

Graph small_graph(WeightSource& source) {
  Graph graph;
  graph.vocabulary = 100;
  graph.ropes.push_back(test::plain_rope(4, RopePairing::adjacent));
  const Value x = graph.add_value(32), q = graph.add_value(16), a = graph.add_value(16);
  const Value h = graph.add_value(24);
  const AttentionShape shape = {0, 2, 1, 8, 0, KeyForm::local};
  const auto w = [&](const char* name, uint32_t rows, uint32_t columns) {
    return source.random(name, DType::f32, rows, columns, 0.3);
  };
  graph.ops.push_back(Embed{w("t", 100, 32), 1, x});
  graph.ops.push_back(
      NormQkv{x, w("n", 1, 32), w("wq", 16, 32), w("wk", 8, 32), w("wv", 8, 32), 1e-5f, shape, q});
  graph.ops.push_back(SpanAttention{q, 0.3f, shape, a});
  graph.ops.push_back(LinearResidual{a, w("wo", 32, 16), x, x});
  graph.ops.push_back(
      NormGatedFfn{x, w("m", 1, 32), w("g", 24, 32), w("u", 24, 32), 1e-5f, Activation::silu, h});
  graph.ops.push_back(LinearResidual{h, w("d", 32, 24), x, x});
  graph.ops.push_back(Logits{x, w("o", 1, 32), w("h", 100, 32), 1e-5f});
  return graph;
}

KvLayout small_layout() {
  return test::one_group(KvType::f32, 8, {0}, 1, 8);
}

Step small_step() {
  const std::vector<std::vector<SpanSpec>> sequences = {
      {{.pages = {0, 1}, .slots = 12}}, {{.pages = {2}, .slots = 3, .positions = {0, 1, 2}}}};
  std::vector<test::RowSpec> rows;
  test::add_rows(rows, sequences, 0, 0, 0, 4);
  test::add_rows(rows, sequences, 1, 0, 0, 2);
  Step step = test::make_step(small_layout(), sequences, rows);
  step.adjustments = {{1, 1, 1}, {2, 1, 1}};
  step.token_masks.assign(4, ~0u);
  step.logits[0].adjustment_count = 2;
  step.logits[0].first_mask_word = 0;
  return step;
}

// Calls `act`, which must throw `status` with a message that contains `field`.
template <class Act>
void expect_error(Status status, const std::string& field, Act&& act) {
  try {
    act();
    ADD_FAILURE() << "nothing was thrown; expected an error about " << field;
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
  }
}

class StepErrorConformance : public test::ConformanceTest {};

TEST_P(StepErrorConformance, Steps) {
  struct Case {
    const char* field;
    void (*damage)(Step&);
  };
  const Case cases[] = {
      {"tokens", [](Step& s) { s = {}; }},
      {"tokens[1]", [](Step& s) { s.tokens[1] = 100; }},
      {"tokens[5]", [](Step& s) { s.tokens[5] = -1; }},
      {"positions[2]", [](Step& s) { s.positions[2] = -1; }},
      {"positions", [](Step& s) { s.positions.pop_back(); }},
      {"key_positions", [](Step& s) { s.key_positions.push_back(0); }},
      {"sequence_of", [](Step& s) { s.sequence_of.clear(); }},
      {"sequence_of[0]", [](Step& s) { s.sequence_of[0] = 2; }},
      {"store_entries", [](Step& s) { s.store_entries.pop_back(); }},
      {"store_entries[3]", [](Step& s) { s.store_entries[3] = 3; }},
      {"store_slots", [](Step& s) { s.store_slots.push_back(1); }},
      {"store_slots[0]", [](Step& s) { s.store_slots[0] = 8; }},
      {"store_slots[1]", [](Step& s) { s.store_slots[1] = s.store_slots[0]; }},
      {"store_slots[4]", [](Step& s) { s.page_tables[0][2] = 0; }},  // the page of another row
      {"sequences[1]", [](Step& s) { s.sequences[1].span_count = 2; }},
      {"sequences[0]", [](Step& s) { s.sequences[0].first_span = UINT32_MAX; }},
      {"spans[0]", [](Step& s) { s.spans[0].slots = 25; }},
      {"spans[0]", [](Step& s) { s.spans[0].first_entry = UINT32_MAX; }},
      {"spans[0]", [](Step& s) { s.spans[0].logical_start = INT32_MAX - 10; }},
      {"spans[1]", [](Step& s) { s.spans[1].first_position = 1; }},
      {"page_tables", [](Step& s) { s.page_tables.emplace_back(); }},
      {"page_tables[0]", [](Step& s) { s.page_tables[0].pop_back(); }},
      {"page_tables[0][1]", [](Step& s) { s.page_tables[0][1] = 4; }},
      {"mass_requests[0].sequence",
       [](Step& s) {
         s.mass_requests = {{2, 0, 1, 0}};
       }},
      {"mass_requests[0]",
       [](Step& s) {
         s.mass_requests = {{0, 3, 4, 0}};
       }},
      {"mass_requests[0]",
       [](Step& s) {
         s.mass_requests = {{0, UINT32_MAX, 2, 0}};
       }},
      {"mass_requests[1]",
       [](Step& s) {
         s.mass_requests = {{0, 0, 4, 0}, {0, 3, 2, 0}};
       }},
      {"logits[2].row", [](Step& s) { s.logits[2].row = 6; }},
      {"logits[2].top_k", [](Step& s) { s.logits[2].top_k = 101; }},
      {"logits[1].temperature", [](Step& s) { s.logits[1].temperature = -1; }},
      {"logits[1].temperature", [](Step& s) { s.logits[1].temperature = NAN; }},
      {"logits[0]", [](Step& s) { s.logits[0].adjustment_count = 3; }},
      {"logits[0]", [](Step& s) { s.logits[0].first_adjustment = UINT32_MAX; }},
      {"logits[0]", [](Step& s) { s.logits[0].first_mask_word = 1; }},
      {"adjustments[0].token", [](Step& s) { s.adjustments[0].token = 100; }},
      {"adjustments[1].token", [](Step& s) { s.adjustments[1].token = -1; }},
      {"adjustments[1]", [](Step& s) { s.adjustments[1].token = 1; }},
      {"adjustments[1].penalty", [](Step& s) { s.adjustments[1].penalty = 0; }},
      {"adjustments[0].subtract", [](Step& s) { s.adjustments[0].subtract = NAN; }},
  };
  test::Device device(*backend, small_graph, small_layout(), 4, 6);
  const StepResult before = device.run(small_step());
  for (const Case& c : cases) {
    SCOPED_TRACE(c.field);
    Step step = small_step();
    c.damage(step);
    expect_error(Status::invalid_argument, c.field, [&] { device.run(step); });
  }
  EXPECT_EQ(device.run(small_step()).logits[5].full, before.logits[5].full);
}

TEST_P(StepErrorConformance, TooManyRows) {
  test::Device device(*backend, small_graph, small_layout(), 4, 5);
  expect_error(Status::invalid_argument, "tokens", [&] { device.run(small_step()); });
}

TEST_P(StepErrorConformance, Graphs) {
  struct Case {
    const char* field;
    void (*damage)(Graph&, WeightSource&);
  };
  const Case cases[] = {
      {"ops", [](Graph& g, WeightSource&) { g.ops.clear(); }},
      {"ops", [](Graph& g, WeightSource&) { g.ops.pop_back(); }},
      {"vocabulary", [](Graph& g, WeightSource&) { g.vocabulary = 0; }},
      {"table", [](Graph& g, WeightSource&) { g.vocabulary = 101; }},
      {"value 9", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).in = 9; }},
      {"value 3", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).in = 3; }},
      {"widths[1]", [](Graph& g, WeightSource&) { g.widths[1] = 0; }},
      {"wk",
       [](Graph& g, WeightSource&) {
         std::get<NormQkv>(g.ops[1]).wk = std::get<NormQkv>(g.ops[1]).wq;
       }},
      {"weight", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).wv = nullptr; }},
      {"epsilon", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).epsilon = NAN; }},
      {"shape", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).shape.kv_heads = 0; }},
      {"shape", [](Graph& g, WeightSource&) { std::get<NormQkv>(g.ops[1]).shape.heads = 3; }},
      {"shape", [](Graph& g, WeightSource&) { std::get<SpanAttention>(g.ops[2]).shape.heads = 1; }},
      {"layer", [](Graph& g, WeightSource&) { std::get<SpanAttention>(g.ops[2]).shape.layer = 1; }},
      {"rope", [](Graph& g, WeightSource&) { std::get<SpanAttention>(g.ops[2]).shape.rope = 1; }},
      {"rope", [](Graph& g, WeightSource&) { g.ropes[0].frequencies.resize(5, 1.0); }},
      {"residual",
       [](Graph& g, WeightSource&) { std::get<LinearResidual>(g.ops[3]).residual = 2; }},
      {"up",
       [](Graph& g, WeightSource& source) {
         std::get<NormGatedFfn>(g.ops[4]).up = source.random("x", DType::f16, 24, 33, 1);
       }},
      {"norm",
       [](Graph& g, WeightSource& source) {
         std::get<Logits>(g.ops[6]).norm = source.random("y", DType::f32, 2, 32, 1);
       }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.field);
    const test::GraphBuilder build = [&c](WeightSource& source) {
      Graph graph = small_graph(source);
      c.damage(graph, source);
      return graph;
    };
    expect_error(Status::invalid_argument, c.field,
                 [&] { test::Device(*backend, build, small_layout(), 4); });
  }
  expect_error(Status::invalid_argument, "max_rows",
               [&] { test::Device(*backend, small_graph, small_layout(), 4, 0); });
}

TEST_P(StepErrorConformance, Layouts) {
  const auto create = [this](const KvLayout& layout, std::vector<uint32_t> counts) {
    return [this, layout, counts] { backend->create_pages(layout, counts); };
  };
  KvLayout layout = small_layout();
  expect_error(Status::invalid_argument, "page_counts", create(layout, {}));
  expect_error(Status::invalid_argument, "page_counts", create(layout, {1, 1}));
  layout.page_slots = 12;
  expect_error(Status::invalid_argument, "page_slots", create(layout, {1}));
  layout = small_layout();
  layout.groups[0].layers.clear();
  expect_error(Status::invalid_argument, "layers", create(layout, {1}));
  layout = test::one_group(KvType::q8_0, 8, {0}, 1, 40);
  expect_error(Status::unsupported, "head_dim", create(layout, {1}));
  expect_error(Status::invalid_argument, "groups[1]",
               [&] { backend->page_bytes(small_layout(), 1); });
  const auto pages = backend->create_pages(small_layout(), std::vector<uint32_t>{2});
  std::vector<uint8_t> page(backend->page_bytes(small_layout(), 0));
  expect_error(Status::invalid_argument, "page 2", [&] { pages->read(0, 2, page.data()); });
  expect_error(Status::invalid_argument, "group 1", [&] { pages->write(1, 0, page.data()); });
  expect_error(Status::invalid_argument, "page 7", [&] { pages->copy(0, 0, 7); });
}

TEST_P(StepErrorConformance, Weights) {
  const WeightReader zeros = [](uint64_t, void* out, uint64_t bytes) {
    std::fill_n(static_cast<uint8_t*>(out), bytes, uint8_t{0});
  };
  expect_error(Status::invalid_argument, "w.q", [&] {
    backend->load_weight({"w.q", DType::q4_k, 2, 128, kUseMatmul}, zeros);
  });
  expect_error(Status::invalid_argument, "w.e", [&] {
    backend->load_weight({"w.e", DType::f32, 0, 128, kUseMatmul}, zeros);
  });
  // What the reader throws comes out.
  expect_error(Status::cancelled, "stopped", [&] {
    backend->load_weight({"w", DType::f32, 4, 128, kUseMatmul},
                         [](uint64_t, void*, uint64_t) { fail(Status::cancelled, "stopped"); });
  });
}

TESSERA_ON_EVERY_DEVICE(StepErrorConformance);

}  // namespace
}  // namespace tessera
