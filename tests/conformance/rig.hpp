// Runs graphs on a backend and on the reference and compares what comes out.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "tests/conformance/devices.hpp"
#include "tests/conformance/reference.hpp"

namespace tessera::test {

// Where a graph's weights come from: the same names give the same values on every side.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Values drawn from the name, of about `scale`, then encoded.
  virtual const Weight* random(const std::string& name, DType type, uint32_t rows, uint32_t columns,
                               double scale) = 0;
  // F32, given values.
  virtual const Weight* given(const std::string& name, uint32_t rows, uint32_t columns,
                              std::vector<float> values) = 0;
};

using GraphBuilder = std::function<Graph(WeightSource&)>;

// Appends a Logits op that shows value `in` as it is: logit i of a row is element i. The norm is
// made linear by an epsilon beside which the squares of the input vanish.
void show(Graph& graph, WeightSource& source, Value in);

// A graph on one backend with pages of its own.
class Device {
 public:
  Device(Backend& backend, const GraphBuilder& build, const KvLayout& layout, uint32_t pages,
         uint32_t max_rows = 128, uint32_t threads = 2);

  StepResult run(const Step& step);
  PageMemory& pages() { return *pages_; }
  Program& program() { return *program_; }

 private:
  std::vector<std::unique_ptr<Weight>> weights_;
  std::unique_ptr<PageMemory> pages_;
  std::unique_ptr<Program> program_;
};

// A graph on the reference.
class ReferenceDevice {
 public:
  ReferenceDevice(const GraphBuilder& build, const KvLayout& layout);
  std::vector<ReferenceLogits> run(const Step& step) { return reference_->run(step); }
  const std::vector<std::vector<double>>& masses() const { return reference_->masses(); }

 private:
  std::vector<std::unique_ptr<Weight>> weights_;
  std::unique_ptr<Reference> reference_;
};

// Both, compared after every step.
class Rig {
 public:
  Rig(Backend& backend, const GraphBuilder& build, const KvLayout& layout, uint32_t pages,
      uint32_t max_rows = 128)
      : device(backend, build, layout, pages, max_rows), reference(build, layout) {}

  // Largest error allowed: `tolerance` times the largest value of the row (at least 1); of masses,
  // times the rows and heads that were summed.
  void run(const Step& step, double tolerance);
  void expect_masses(const StepResult& got, const Step& step, double tolerance) const;

  Device device;
  ReferenceDevice reference;
};

// What a test says about a span; entries and tables follow from it.
struct SpanSpec {
  std::vector<uint32_t> pages;  // of every group
  uint32_t slots = 0;
  int32_t logical_start = 0;
  int32_t frame_start = 0;
  std::vector<int32_t> positions = {};  // of slots, or empty
  std::vector<uint64_t> masks = {};     // of pages, or empty: all valid
};

struct RowSpec {
  int32_t token = 0;
  int32_t position = 0;
  uint32_t sequence = 0;
  uint32_t span = 0;  // of the sequence: where K and V are stored
  uint32_t slot = 0;  // of the span
};

// A step that asks for all logits of every row.
Step make_step(const KvLayout& layout, const std::vector<std::vector<SpanSpec>>& sequences,
               const std::vector<RowSpec>& rows);

// Consecutive rows of a sequence that fill a span from slot `first` on.
void add_rows(std::vector<RowSpec>& rows, const std::vector<std::vector<SpanSpec>>& sequences,
              uint32_t sequence, uint32_t span, uint32_t first, uint32_t count, uint32_t seed = 0);

// A layout of one group.
KvLayout one_group(KvType type, uint32_t page_slots, std::vector<uint32_t> layers,
                   uint32_t kv_heads, uint32_t head_dim, uint32_t window = 0);

inline constexpr uint32_t kTokens = 64;  // random embeddings of test graphs

// base^(-2i / (2 * pairs)).
Rope plain_rope(uint32_t pairs, RopePairing pairing, double base = 10000, double magnitude = 1);

class ConformanceTest : public testing::TestWithParam<ConformanceDevice> {
 protected:
  void SetUp() override;
  std::unique_ptr<Backend> backend;
  double tolerance(double fp32) const { return fp32 * GetParam().tolerance; }
  // The same for activations that meet weights of a type.
  double tolerance(double fp32, DType weights) const {
    if (weights == DType::f32) return tolerance(fp32);
    const bool quantised = dtype_info(weights).block_elements > 1;
    return tolerance(fp32) + (quantised ? GetParam().int8_error : GetParam().int16_error);
  }
};

}  // namespace tessera::test
