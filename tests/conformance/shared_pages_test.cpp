// Sequences of a step that read the same pages, each with masks, positions and frames of its own:
// against the reference, and the bits of each alone.
#include <cmath>
#include <cstring>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::RowSpec;
using test::SpanSpec;
using test::WeightSource;
using Sequences = std::vector<std::vector<SpanSpec>>;

constexpr uint32_t kHeads = 6, kKvHeads = 2, kHeadDim = 32;
constexpr uint32_t kPageSlots = 8;  // of the page numbers below

struct Case {
  KvType type;
  uint32_t page_slots;
  uint32_t window;  // of the first layer, which then has pages of its own
  double error;
};

KvLayout layout_of(const Case& c) {
  KvLayout layout = test::one_group(c.type, c.page_slots, {0, 1}, kKvHeads, kHeadDim);
  if (c.window > 0) {
    layout.groups = {{{0}, kKvHeads, kHeadDim, c.window}, {{1}, kKvHeads, kHeadDim, 0}};
  }
  return layout;
}

std::string text(const Case& c) {
  return "type " + std::to_string(static_cast<int>(c.type)) + ", pages of " +
         std::to_string(c.page_slots) + ", window " + std::to_string(c.window);
}

// Two layers: attention of the first shows in what the second stores.
Graph graph(WeightSource& source) {
  Graph graph;
  const uint32_t width = 64, q = kHeads * kHeadDim, kv = kKvHeads * kHeadDim;
  graph.vocabulary = q;
  graph.ropes.push_back(test::plain_rope(kHeadDim / 2, RopePairing::adjacent));
  const Value x = graph.add_value(width);
  graph.ops.push_back(Embed{source.random("table", DType::f32, q, width, 1), 1, x});
  Value attended = 0;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const std::string l = std::to_string(layer);
    const AttentionShape shape = {layer, kHeads, kKvHeads, kHeadDim, 0};
    const Value query = graph.add_value(q), log_sum = graph.add_value(kHeads);
    attended = graph.add_value(q);
    graph.ops.push_back(NormQkv{x, source.random("norm" + l, DType::f32, 1, width, 1),
                                source.random("wq" + l, DType::f32, q, width, 0.4),
                                source.random("wk" + l, DType::f32, kv, width, 0.4),
                                source.random("wv" + l, DType::f32, kv, width, 0.4), 1e-5f, shape,
                                query});
    graph.ops.push_back(SpanAttention{query, 0.18f, shape, attended, log_sum});
    graph.ops.push_back(AttentionMass{query, log_sum, 0.18f, shape});
    if (layer == 0) {
      graph.ops.push_back(
          LinearResidual{attended, source.random("wo", DType::f32, width, q, 0.1), x, x});
    }
  }
  test::show(graph, source, attended);
  return graph;
}

// Pages hold NaN where nothing was stored, to show that what nobody sees is not used.
void spoil(Backend& backend, test::Device& device, const KvLayout& layout, uint32_t pages) {
  for (uint32_t g = 0; g < layout.groups.size(); ++g) {
    const std::vector<uint8_t> nan(backend.page_bytes(layout, g), 0xff);
    for (uint32_t page = 0; page < pages; ++page) device.pages().write(g, page, nan.data());
  }
}

// A step's sequences over two documents that were encoded before.
class Scene {
 public:
  // `length`: slots of the long document; at least 256.
  Scene(const KvLayout& l, uint32_t length) : layout(l) {
    const SpanSpec a = {.pages = pages(0, length), .slots = length};
    const SpanSpec b = {.pages = pages(104, 70), .slots = 70};
    prepared_ = {{a, 1}, {b, 2}};
    add({a, moved(b, end(a))});                          // one behind the other
    add({moved(hiding(a), 9), moved(b, 9 + end(a))});    // repaired elsewhere
    add({b, moved(a, 100000)});                          // the other way round, far away
    add({a, moved(a, end(a)), moved(hiding(b), 5000)});  // the same one twice
    add({first_slots(a, length - 100)});                 // fewer pages of it
    add({continued(a, 192, 40)});                        // its first pages, then others
    add({continued(a, 40, 200)});
    add({listed(moved(a, 3)), b});   // listed positions
    add({copied(a)});                // the same tokens, other pages
    add({moved(a, 7), b}, 3);        // several rows
    add({a, moved(b, end(a))}, 9);   // more than a block
    add({hidden(a), moved(b, 20)});  // sees nothing of the first
    add({moved(b, 1)});
    add({moved(a, 1000000), moved(b, 2)});  // sees it all behind itself
    rows_of_.back().position = 600;
  }

  // Fills the documents and what spans above have beside them, each 64 slots by themselves.
  template <class Run>
  void prepare(Run&& run) const {
    for (const auto& [span, seed] : prepared_) {
      for (uint32_t first = 0; first < span.slots; first += 64) {
        const uint32_t page = first / layout.page_slots, pages = 64 / layout.page_slots;
        SpanSpec part;
        part.slots = std::min(64u, span.slots - first);
        part.logical_start = static_cast<int32_t>(first);
        for (uint32_t i = page; i < span.pages.size() && i < page + pages; ++i) {
          part.pages.push_back(span.pages[i]);
        }
        const Sequences sequences = {{part}};
        std::vector<RowSpec> rows;
        test::add_rows(rows, sequences, 0, 0, 0, part.slots, seed + first);
        run(test::make_step(layout, sequences, rows));
      }
    }
  }

  uint32_t sequences() const { return static_cast<uint32_t>(sequences_.size()); }
  // The rows of sequences `first` to `end` - 1 in one step.
  Step step(uint32_t first, uint32_t end) const {
    Sequences some(sequences_.begin() + first, sequences_.begin() + end);
    std::vector<RowSpec> rows;
    std::vector<MassRequest> masses;
    for (uint32_t s = first; s < end; ++s) {
      masses.push_back({s - first, static_cast<uint32_t>(rows.size()), rows_of_[s].count, 0});
      for (uint32_t r = 0; r < rows_of_[s].count; ++r) {
        const auto own = static_cast<uint32_t>(sequences_[s].size() - 1);
        rows.push_back({static_cast<int32_t>((s * 7 + r * 3) % test::kTokens),
                        rows_of_[s].position + static_cast<int32_t>(r), s - first, own, r});
      }
    }
    Step step = test::make_step(layout, some, rows);
    step.mass_requests = masses;
    return step;
  }

  static constexpr uint32_t kPages = 1024;  // of 8 slots

  const KvLayout layout;

 private:
  std::vector<uint32_t> pages(uint32_t first, uint32_t slots) const {
    std::vector<uint32_t> pages((slots + layout.page_slots - 1) / layout.page_slots);
    for (uint32_t i = 0; i < pages.size(); ++i) {
      pages[i] = first * kPageSlots / layout.page_slots + i;
    }
    return pages;
  }
  uint32_t take(uint32_t slots) {
    const uint32_t first = next_;
    next_ += (slots + 63) / 64 * 8;
    return first;
  }

  // A sequence with these spans and one of its own, where its rows are stored.
  void add(std::vector<SpanSpec> spans, uint32_t rows = 1) {
    int32_t start = 0;
    for (const SpanSpec& span : spans) start = std::max(start, end(span));
    spans.push_back({.pages = pages(take(rows), rows), .slots = rows, .logical_start = start});
    sequences_.push_back(std::move(spans));
    rows_of_.push_back({rows, start});
  }

  static int32_t end(const SpanSpec& span) {
    return span.logical_start + static_cast<int32_t>(span.slots);
  }
  static SpanSpec moved(SpanSpec span, int32_t start) {
    span.logical_start = span.frame_start = start;
    return span;
  }
  void hide(SpanSpec& span, uint32_t slot) const {
    span.masks.resize(span.pages.size(), ~uint64_t{0});
    span.masks[slot / layout.page_slots] &= ~(uint64_t{1} << slot % layout.page_slots);
  }
  // Its head, a slot here and there and, of a long one, a whole tile.
  SpanSpec hiding(SpanSpec span) const {
    for (uint32_t slot = 0; slot < 20; ++slot) hide(span, slot);
    for (uint32_t slot = 33; slot < span.slots; slot += 29) hide(span, slot);
    for (uint32_t slot = 128; slot < 192 && slot < span.slots; ++slot) hide(span, slot);
    return span;
  }
  SpanSpec hidden(SpanSpec span) const {
    span.masks.assign(span.pages.size(), 0);
    return span;
  }
  SpanSpec first_slots(SpanSpec span, uint32_t slots) const {
    span.slots = slots;
    span.pages.resize((slots + layout.page_slots - 1) / layout.page_slots);
    return span;
  }
  SpanSpec listed(SpanSpec span) const {
    for (uint32_t slot = 0; slot < span.slots; ++slot) {
      span.positions.push_back(span.logical_start + static_cast<int32_t>(slot + slot / 10));
    }
    return span;
  }
  // `shared` slots in the span's pages, a multiple of 8, rounded to whole pages; then `more`.
  SpanSpec continued(SpanSpec span, uint32_t shared, uint32_t more) {
    const uint32_t whole = shared / layout.page_slots;
    span.pages.resize(whole);
    span.slots = whole * layout.page_slots;
    SpanSpec rest = {.pages = pages(take(more), more), .slots = more};
    prepared_.push_back({rest, 5});
    span.pages.insert(span.pages.end(), rest.pages.begin(), rest.pages.end());
    span.slots += more;
    return span;
  }
  SpanSpec copied(SpanSpec span) {
    span.pages = pages(take(span.slots), span.slots);
    prepared_.push_back({span, 1});
    return span;
  }

  struct Rows {
    uint32_t count;
    int32_t position;  // of the first
  };
  uint32_t next_ = 128;  // page of 8 slots
  Sequences sequences_;
  std::vector<Rows> rows_of_;
  std::vector<std::pair<SpanSpec, uint32_t>> prepared_;  // and the seed of its tokens
};

// The results of sequences that were computed together have the bits of those of each alone.
void expect_each(const StepResult& together, std::span<const StepResult> alone) {
  size_t row = 0;
  for (size_t s = 0; s < together.masses.size(); ++s) {
    ASSERT_EQ(together.masses[s], alone[s].masses[0]) << "sequence " << s;
    for (const LogitsResult& want : alone[s].logits) {
      const std::vector<float>& got = together.logits[row++].full;
      ASSERT_EQ(got.size(), want.full.size());
      ASSERT_EQ(std::memcmp(got.data(), want.full.data(), got.size() * sizeof(float)), 0)
          << "sequence " << s;
      for (const float x : got) ASSERT_TRUE(std::isfinite(x));
    }
  }
  ASSERT_EQ(row, together.logits.size());
}

class SharedPages : public test::ConformanceTest {};

TEST_P(SharedPages, AgreeWithTheReference) {
  for (const Case& c : {Case{KvType::f32, 8, 0, 2e-5}, Case{KvType::f16, 16, 0, 2e-3},
                        Case{KvType::q8_0, 32, 0, 1e-2}, Case{KvType::f16, 64, 60, 2e-3}}) {
    SCOPED_TRACE(text(c));
    Scene scene(layout_of(c), 260);
    const uint32_t pages = Scene::kPages * kPageSlots / c.page_slots;
    test::Rig rig(*backend, graph, scene.layout, pages);
    spoil(*backend, rig.device, scene.layout, pages);
    scene.prepare([&](const Step& step) { rig.run(step, tolerance(c.error)); });
    ASSERT_FALSE(HasFatalFailure());
    rig.run(scene.step(0, scene.sequences()), tolerance(c.error));
    ASSERT_FALSE(HasFatalFailure());
  }
}

// Together, whatever the threads, each sequence has the bits that it has alone.
TEST_P(SharedPages, ChangeNoBit) {
  if (!GetParam().bit_exact) GTEST_SKIP() << "this device promises no equal bits";
  if (GetParam().math == MathMode::fast) GTEST_SKIP() << "fp32 weights: as in reference mode";
  uint32_t threads = 0;
  for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
    for (const uint32_t page_slots : {8u, 16u, 32u, 64u}) {
      for (const uint32_t window : {0u, 300u}) {
        const Case c = {type, page_slots, window, 0};
        threads = threads % 8 + 1;
        SCOPED_TRACE(text(c) + ", threads " + std::to_string(threads));
        const Scene scene(layout_of(c), 604);
        const auto device_of = [&](uint32_t count) {
          const uint32_t pages = Scene::kPages * kPageSlots / page_slots;
          auto device =
              std::make_unique<test::Device>(*backend, graph, scene.layout, pages, 128, count);
          spoil(*backend, *device, scene.layout, pages);
          scene.prepare([&](const Step& step) { device->run(step); });
          return device;
        };
        const auto one = device_of(1), many = device_of(threads);
        std::vector<StepResult> alone;
        for (uint32_t s = 0; s < scene.sequences(); ++s) {
          alone.push_back(one->run(scene.step(s, s + 1)));
        }
        for (const auto& [first, end] : {std::pair{0u, scene.sequences()}, {0u, 2u}, {2u, 5u}}) {
          SCOPED_TRACE("sequences " + std::to_string(first) + " to " + std::to_string(end));
          expect_each(many->run(scene.step(first, end)), std::span(alone).subspan(first));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TESSERA_ON_EVERY_DEVICE(SharedPages);

}  // namespace
}  // namespace tessera
