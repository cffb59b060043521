#include "tests/conformance/rig.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/registry.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::test {
namespace {

struct Encoded {
  WeightDesc desc;
  std::vector<uint8_t> bytes;
};

Encoded encode(const std::string& name, DType type, uint32_t rows, uint32_t columns,
               const std::vector<float>& values) {
  WeightDesc desc = {name, type, rows, columns, kUseMatmul | kUseGather};
  return {desc, quantise(type, values)};
}

class AnySource : public WeightSource {
 public:
  explicit AnySource(std::vector<std::unique_ptr<Weight>>& weights) : weights_(weights) {}

  const Weight* random(const std::string& name, DType type, uint32_t rows, uint32_t columns,
                       double scale) override {
    Random random(hash(name, 1));
    std::vector<float> values(size_t{rows} * columns);
    for (float& v : values) {
      const double uniform = static_cast<double>(random.next() >> 11) * 0x1p-53;
      v = static_cast<float>((2 * uniform - 1) * scale);
    }
    return add(encode(name, type, rows, columns, values));
  }

  const Weight* given(const std::string& name, uint32_t rows, uint32_t columns,
                      std::vector<float> values) override {
    return add(encode(name, DType::f32, rows, columns, values));
  }

 protected:
  virtual std::unique_ptr<Weight> load(const Encoded& weight) = 0;

 private:
  const Weight* add(const Encoded& weight) {
    weights_.push_back(load(weight));
    return weights_.back().get();
  }
  std::vector<std::unique_ptr<Weight>>& weights_;
};

class BackendSource final : public AnySource {
 public:
  BackendSource(Backend& backend, std::vector<std::unique_ptr<Weight>>& weights)
      : AnySource(weights), backend_(backend) {}

 private:
  std::unique_ptr<Weight> load(const Encoded& w) override {
    return backend_.load_weight(w.desc, [&w](uint64_t offset, void* out, uint64_t bytes) {
      ASSERT_LE(offset + bytes, w.bytes.size());
      std::memcpy(out, w.bytes.data() + offset, bytes);
    });
  }
  Backend& backend_;
};

class ReferenceSource final : public AnySource {
 public:
  using AnySource::AnySource;

 private:
  std::unique_ptr<Weight> load(const Encoded& w) override {
    return std::make_unique<ReferenceWeight>(
        w.desc, dequantise(w.desc.type, w.bytes.data(), uint64_t{w.desc.rows} * w.desc.columns));
  }
};

}  // namespace

void show(Graph& graph, WeightSource& source, Value in) {
  const uint32_t width = graph.widths[in];
  std::vector<float> identity(size_t{graph.vocabulary} * width, 0.0f);
  for (uint32_t i = 0; i < std::min(width, graph.vocabulary); ++i) {
    identity[size_t{i} * width + i] = 1.0f;
  }
  graph.ops.push_back(Logits{in, source.given("show norm", 1, width, std::vector(width, 1e6f)),
                             source.given("show", graph.vocabulary, width, identity), 1e12f});
}

Device::Device(Backend& backend, const GraphBuilder& build, const KvLayout& layout, uint32_t pages,
               uint32_t max_rows, uint32_t threads) {
  BackendSource source(backend, weights_);
  const Graph graph = build(source);
  pages_ = backend.create_pages(layout, std::vector<uint32_t>(layout.groups.size(), pages));
  program_ = backend.compile(graph, *pages_, {max_rows, threads});
}

StepResult Device::run(const Step& step) {
  StepResult result;
  program_->plan(step);
  program_->submit();
  program_->wait(result);
  return result;
}

ReferenceDevice::ReferenceDevice(const GraphBuilder& build, const KvLayout& layout) {
  ReferenceSource source(weights_);
  reference_ = std::make_unique<Reference>(build(source), layout);
}

void Rig::run(const Step& step, double tolerance) {
  const StepResult got = device.run(step);
  const std::vector<ReferenceLogits> want = reference.run(step);
  ASSERT_EQ(got.logits.size(), want.size());
  ASSERT_NO_FATAL_FAILURE(expect_masses(got, step, tolerance));
  for (size_t r = 0; r < want.size(); ++r) {
    ASSERT_EQ(got.logits[r].full.size(), step.logits[r].full ? want[r].full.size() : 0);
    double largest = 1;
    for (const double x : want[r].full) {
      if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
    }
    for (size_t i = 0; i < got.logits[r].full.size(); ++i) {
      const double x = got.logits[r].full[i];
      if (x == want[r].full[i]) continue;  // infinities
      ASSERT_LE(std::abs(x - want[r].full[i]), tolerance * largest)
          << "row " << step.logits[r].row << " element " << i << ": " << x << " instead of "
          << want[r].full[i];
    }
  }
}

void Rig::expect_masses(const StepResult& got, const Step& step, double tolerance) const {
  const std::vector<std::vector<double>>& want = reference.masses();
  ASSERT_EQ(got.masses.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got.masses[i].size(), want[i].size());
    double total = 0;
    for (const double x : want[i]) total += x;
    for (size_t slot = 0; slot < want[i].size(); ++slot) {
      const double mass = static_cast<double>(got.masses[i][slot]) / kMassUnits;
      ASSERT_NEAR(mass, want[i][slot], tolerance * total)
          << "request " << i << " of " << step.mass_requests[i].rows << " rows, slot " << slot;
      if (want[i][slot] == 0) ASSERT_EQ(got.masses[i][slot], 0u) << "nobody sees slot " << slot;
    }
  }
}

Step make_step(const KvLayout& layout, const std::vector<std::vector<SpanSpec>>& sequences,
               const std::vector<RowSpec>& rows) {
  Step step;
  step.page_tables.resize(layout.groups.size());
  for (const std::vector<SpanSpec>& spans : sequences) {
    step.sequences.push_back(
        {static_cast<uint32_t>(step.spans.size()), static_cast<uint32_t>(spans.size())});
    for (const SpanSpec& spec : spans) {
      SpanEntry span = {static_cast<uint32_t>(step.masks.size()), spec.slots, spec.logical_start,
                        spec.frame_start, kNoPositions};
      if (!spec.positions.empty()) {
        span.first_position = static_cast<uint32_t>(step.slot_positions.size());
        step.slot_positions.insert(step.slot_positions.end(), spec.positions.begin(),
                                   spec.positions.end());
      }
      step.spans.push_back(span);
      for (size_t i = 0; i < spec.pages.size(); ++i) {
        for (std::vector<uint32_t>& table : step.page_tables) table.push_back(spec.pages[i]);
        step.masks.push_back(spec.masks.empty() ? ~uint64_t{0} : spec.masks[i]);
      }
    }
  }
  for (const RowSpec& row : rows) {
    const uint32_t span = step.sequences[row.sequence].first_span + row.span;
    step.logits.push_back({.row = step.rows(), .full = true});
    step.tokens.push_back(row.token);
    step.positions.push_back(row.position);
    step.key_positions.push_back(row.position - step.spans[span].frame_start);
    step.sequence_of.push_back(row.sequence);
    step.store_entries.push_back(step.spans[span].first_entry + row.slot / layout.page_slots);
    step.store_slots.push_back(row.slot % layout.page_slots);
  }
  return step;
}

void add_rows(std::vector<RowSpec>& rows, const std::vector<std::vector<SpanSpec>>& sequences,
              uint32_t sequence, uint32_t span, uint32_t first, uint32_t count, uint32_t seed) {
  const SpanSpec& spec = sequences[sequence][span];
  for (uint32_t slot = first; slot < first + count; ++slot) {
    const int32_t token = static_cast<int32_t>((slot * 7 + seed * 13 + span * 5) % kTokens);
    const int32_t position = spec.positions.empty()
                                 ? spec.logical_start + static_cast<int32_t>(slot)
                                 : spec.positions[slot];
    rows.push_back({token, position, sequence, span, slot});
  }
}

KvLayout one_group(KvType type, uint32_t page_slots, std::vector<uint32_t> layers,
                   uint32_t kv_heads, uint32_t head_dim, uint32_t window) {
  return {type, page_slots, {{std::move(layers), kv_heads, head_dim, window}}};
}

Rope plain_rope(uint32_t pairs, RopePairing pairing, double base, double magnitude) {
  Rope rope = {{}, magnitude, pairing};
  for (uint32_t i = 0; i < pairs; ++i) {
    rope.frequencies.push_back(std::pow(base, -1.0 * i / pairs));
  }
  return rope;
}

void ConformanceTest::SetUp() {
  backend = open_device(GetParam().id, {.math = GetParam().math});
}

}  // namespace tessera::test
