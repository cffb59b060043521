// NormQkv, SpanAttention and AttentionMass against the reference.
#include <cmath>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::kTokens;
using test::SpanSpec;
using test::WeightSource;

struct Shape {
  const char* name;
  uint32_t heads, kv_heads, head_dim;
  uint32_t pairs;  // rotated
  RopePairing pairing = RopePairing::adjacent;
  uint32_t page_slots = 16;
  KvType type = KvType::f32;
  uint32_t window = 0;
  KeyForm form = KeyForm::local;
  double magnitude = 1;
  DType weights = DType::f32;
};

constexpr RopePairing kHalves = RopePairing::halves;

const Shape kShapes[] = {
    {"one head", 1, 1, 32, 16},
    {"as SmolLM2", 9, 3, 64, 32, RopePairing::adjacent, 16, KvType::f16},
    {"multi-query", 8, 1, 128, 64, kHalves, 32, KvType::q8_0},
    {"no groups", 5, 5, 32, 16, RopePairing::adjacent, 8, KvType::q8_0},
    {"head_dim 80", 4, 2, 80, 40, RopePairing::adjacent, 64, KvType::f16},
    {"head_dim 80 in fp32", 6, 2, 80, 40, kHalves, 16},
    {"head_dim 12", 2, 1, 12, 6, RopePairing::adjacent, 8},
    {"head_dim 7", 3, 1, 7, 3, RopePairing::adjacent, 8, KvType::f16},
    {"partly rotated", 4, 4, 64, 8, RopePairing::adjacent, 32},
    {"partly rotated halves", 4, 2, 64, 8, kHalves, 64},
    {"not rotated", 2, 2, 32, 0},
    {"window 9", 4, 2, 32, 16, RopePairing::adjacent, 16, KvType::f32, 9},
    {"window 64 in f16", 3, 1, 64, 32, kHalves, 8, KvType::f16, 64},
    {"window 1", 2, 1, 32, 16, RopePairing::adjacent, 16, KvType::f32, 1},
    {"magnitude", 4, 2, 32, 12, RopePairing::adjacent, 16, KvType::f32, 0, KeyForm::local, 1.3},
    {"unrotated", 4, 2, 32, 16, RopePairing::adjacent, 16, KvType::f32, 0, KeyForm::unrotated},
    {"unrotated halves", 4, 2, 32, 12, kHalves, 8, KvType::f16, 20, KeyForm::unrotated, 1.2},
    {"unrotated q8_0", 2, 1, 64, 32, kHalves, 64, KvType::q8_0, 0, KeyForm::unrotated},
    {"weights Q4_1", 8, 2, 32, 16, RopePairing::adjacent, 16, KvType::f32, 0, KeyForm::local, 1,
     DType::q4_1},
    {"weights Q6_K", 8, 2, 32, 16, RopePairing::adjacent, 16, KvType::f32, 0, KeyForm::local, 1,
     DType::q6_k},
};

// `groups`: whether the second layer has pages of its own, without window.
KvLayout layout_of(const Shape& s, bool groups) {
  KvLayout layout = test::one_group(s.type, s.page_slots, {0, 1}, s.kv_heads, s.head_dim, s.window);
  if (groups) {
    layout.groups = {{{0}, s.kv_heads, s.head_dim, s.window}, {{1}, s.kv_heads, s.head_dim, 0}};
  }
  return layout;
}

// Two layers: attention of the first shows in what the second stores.
test::GraphBuilder graph_of(const Shape& s) {
  return [s](WeightSource& source) {
    Graph graph;
    const uint32_t width = 256, q = s.heads * s.head_dim;
    graph.vocabulary = std::max(kTokens, q);
    graph.ropes.push_back(test::plain_rope(s.pairs, s.pairing, 10000, s.magnitude));
    const Value x = graph.add_value(width);
    graph.ops.push_back(
        Embed{source.random("table", DType::f32, graph.vocabulary, width, 1), 1, x});
    const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    Value attended = 0;
    for (uint32_t layer = 0; layer < 2; ++layer) {
      const std::string l = std::to_string(layer);
      const AttentionShape shape = {layer, s.heads, s.kv_heads, s.head_dim, 0, s.form};
      const uint32_t kv = s.kv_heads * s.head_dim;
      const Value query = graph.add_value(q);
      attended = graph.add_value(q);
      const Value log_sum = graph.add_value(s.heads);
      graph.ops.push_back(NormQkv{x, source.random("norm" + l, DType::f32, 1, width, 1),
                                  source.random("wq" + l, s.weights, q, width, 0.2),
                                  source.random("wk" + l, s.weights, kv, width, 0.2),
                                  source.random("wv" + l, s.weights, kv, width, 0.2), 1e-5f, shape,
                                  query});
      graph.ops.push_back(SpanAttention{query, scale, shape, attended, log_sum});
      graph.ops.push_back(AttentionMass{query, log_sum, scale, shape});
      if (layer == 0) {
        graph.ops.push_back(
            LinearResidual{attended, source.random("wo", DType::f32, width, q, 0.1), x, x});
      }
    }
    test::show(graph, source, attended);
    return graph;
  };
}

double error_of(const Shape& s) {
  // A key or value that rounds to the other side is off by a unit of its type.
  switch (s.type) {
    case KvType::f32:
      return 2e-5;
    case KvType::f16:
      return 2e-3;
    case KvType::q8_0:
      return 1e-2;
  }
  return 0;
}

class AttentionConformance : public test::ConformanceTest {
 protected:
  // A rig whose pages hold NaN where nothing was stored, to show that hidden slots are not used.
  std::unique_ptr<test::Rig> rig(const Shape& s, bool groups = false) {
    const KvLayout layout = layout_of(s, groups);
    auto rig = std::make_unique<test::Rig>(*backend, graph_of(s), layout, kPages);
    for (uint32_t g = 0; g < layout.groups.size(); ++g) {
      const std::vector<uint8_t> nan(backend->page_bytes(layout, g), 0xff);
      for (uint32_t page = 0; page < kPages; ++page) {
        rig->device.pages().write(g, page, nan.data());
      }
    }
    return rig;
  }

  static constexpr uint32_t kPages = 64;
};

std::vector<uint32_t> page_run(uint32_t first, uint32_t slots, uint32_t page_slots) {
  std::vector<uint32_t> pages;
  for (uint32_t i = 0; i * page_slots < slots; ++i) pages.push_back(first + i);
  return pages;
}

// Two chunks are encoded in frames of their own; then two sessions read them at different places,
// behind text and before text of their own, one with slots hidden and repaired elsewhere.
TEST_P(AttentionConformance, ChunksInSeveralSessions) {
  for (const Shape& s : kShapes) {
    SCOPED_TRACE(s.name);
    const uint32_t p = s.page_slots;
    const auto at = [p](uint32_t first_of_8, uint32_t slots) {
      return page_run(first_of_8 * 8 / p, slots, p);
    };
    const auto r = rig(s);
    const KvLayout layout = layout_of(s, false);

    const SpanSpec one = {.pages = at(0, 37), .slots = 37};
    const SpanSpec two = {.pages = at(8, 70), .slots = 70};
    const std::vector<std::vector<SpanSpec>> encode = {{one}, {two}};
    std::vector<test::RowSpec> rows;
    test::add_rows(rows, encode, 0, 0, 0, 37);
    test::add_rows(rows, encode, 1, 0, 0, 70, 1);
    r->run(test::make_step(layout, encode, rows), tolerance(error_of(s), s.weights));
    ASSERT_FALSE(HasFatalFailure());

    // Session 0: text, chunk one, chunk two with its first 20 slots and some others hidden, the
    // hidden ones repaired in a span that lists their positions, text.
    SpanSpec repaired = {.pages = at(24, 23), .slots = 23, .frame_start = 42};
    SpanSpec hidden = two;
    hidden.logical_start = hidden.frame_start = 42;
    hidden.masks.assign(hidden.pages.size(), ~uint64_t{0});
    for (const uint32_t slot :
         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 33, 50, 69}) {
      hidden.masks[slot / p] &= ~(uint64_t{1} << (slot % p));
      repaired.positions.push_back(42 + static_cast<int32_t>(slot));
    }
    SpanSpec first = one;
    first.logical_start = first.frame_start = 5;
    // Session 1: chunk two far from the origin, then text.
    SpanSpec far = two;
    far.logical_start = far.frame_start = 100000;
    const std::vector<std::vector<SpanSpec>> sessions = {
        {{.pages = at(32, 5), .slots = 5},
         first,
         hidden,
         repaired,
         {.pages = at(40, 9), .slots = 9, .logical_start = 112}},
        {far, {.pages = at(48, 6), .slots = 6, .logical_start = 100070}},
    };
    rows.clear();
    test::add_rows(rows, sessions, 0, 0, 0, 5, 2);
    test::add_rows(rows, sessions, 0, 3, 0, 23, 3);
    test::add_rows(rows, sessions, 0, 4, 0, 9, 4);
    test::add_rows(rows, sessions, 1, 1, 0, 6, 5);
    Step step = test::make_step(layout, sessions, rows);
    step.mass_requests = {{0, 28, 9, 0}, {1, 37, 6, 1}, {0, 3, 2, 1}, {1, 40, 0, 0}};
    r->run(step, tolerance(error_of(s), s.weights));
    ASSERT_FALSE(HasFatalFailure());
  }
}

// Slots of a span that are not filled yet lie behind every row.
TEST_P(AttentionConformance, DecodeTokenByToken) {
  for (const Shape& s : {kShapes[1], kShapes[3], kShapes[11], kShapes[16]}) {
    SCOPED_TRACE(s.name);
    const auto r = rig(s, true);
    const KvLayout layout = layout_of(s, true);
    const std::vector<std::vector<SpanSpec>> sequences = {
        {{.pages = page_run(0, 80, s.page_slots), .slots = 80, .logical_start = 3}}};
    for (uint32_t slot = 0; slot < 70;) {
      const uint32_t count = slot == 0 ? 61 : 1;
      std::vector<test::RowSpec> rows;
      test::add_rows(rows, sequences, 0, 0, slot, count);
      r->run(test::make_step(layout, sequences, rows), tolerance(error_of(s), s.weights));
      ASSERT_FALSE(HasFatalFailure());
      slot += count;
    }
  }
}

TEST_P(AttentionConformance, NothingVisibleGivesZeros) {
  const Shape s = {"", 4, 2, 32, 16};
  const auto r = rig(s);
  const KvLayout layout = layout_of(s, false);
  const std::vector<std::vector<SpanSpec>> sequences = {
      {{.pages = {0}, .slots = 16, .masks = {0}}},              // all hidden
      {{.pages = {1}, .slots = 16, .logical_start = 50}},       // all later
      {},                                                       // no spans: stores beside
      {{.pages = {2}, .slots = 0}, {.pages = {3}, .slots = 3}}  // the last two see something
  };
  Step step = test::make_step(layout, sequences, {{1, 0, 0, 0, 0}, {2, 9, 1, 0, 1}});
  step.tokens.insert(step.tokens.end(), {3, 4, 5});
  step.positions.insert(step.positions.end(), {7, 0, 1});
  step.key_positions.insert(step.key_positions.end(), {7, 0, 1});
  step.sequence_of.insert(step.sequence_of.end(), {2, 3, 3});
  step.store_entries.insert(step.store_entries.end(), {2, 3, 3});
  step.store_slots.insert(step.store_slots.end(), {0, 0, 1});
  for (uint32_t row = 2; row < 5; ++row) step.logits.push_back({.row = row, .full = true});
  r->run(step, tolerance(2e-5));
  ASSERT_FALSE(HasFatalFailure());
  const StepResult result = r->device.run(step);
  for (uint32_t row = 0; row < 3; ++row) {
    for (const float x : result.logits[row].full) EXPECT_EQ(x, 0);
  }
}

// Positions near the end of int32, where single-precision angles would be noise.
TEST_P(AttentionConformance, LargePositions) {
  for (const KeyForm form : {KeyForm::local, KeyForm::unrotated}) {
    Shape s = {"", 2, 1, 32, 16};
    s.form = form;
    const auto r = rig(s);
    const std::vector<std::vector<SpanSpec>> sequences = {
        {{.pages = {0, 1}, .slots = 20, .logical_start = INT32_MAX - 19},
         {.pages = {2}, .slots = 9, .logical_start = 0, .frame_start = -7}}};
    std::vector<test::RowSpec> rows;
    test::add_rows(rows, sequences, 0, 0, 0, 20);
    test::add_rows(rows, sequences, 0, 1, 0, 9);
    r->run(test::make_step(layout_of(s, false), sequences, rows), tolerance(2e-5));
    ASSERT_FALSE(HasFatalFailure());
  }
}

TESSERA_ON_EVERY_DEVICE(AttentionConformance);

}  // namespace
}  // namespace tessera
