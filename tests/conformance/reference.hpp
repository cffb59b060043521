// A plain interpreter of graphs in float64: what every backend is compared with. It is written for
// reading, one loop a formula, and shares no code with any backend.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "backends/backend.hpp"

namespace tessera::test {

// A weight as exact values [rows][columns].
class ReferenceWeight final : public Weight {
 public:
  ReferenceWeight(WeightDesc desc, std::vector<float> values)
      : Weight(std::move(desc)), values_(std::move(values)) {}
  uint64_t device_bytes() const override { return values_.size() * sizeof(float); }
  double at(uint32_t row, uint32_t column) const {
    return values_[size_t{row} * desc().columns + column];
  }

 private:
  std::vector<float> values_;
};

struct ReferenceLogits {
  std::vector<double> full;                 // logits or weights, after adjustments and mask
  std::vector<std::pair<int, double>> top;  // largest first, ties to the lower id
  double log_sum_exp = 0;
  double weight_sum = 0;
};

class Reference {
 public:
  // The graph's weights are ReferenceWeights.
  Reference(Graph graph, KvLayout layout) : graph_(std::move(graph)), layout_(std::move(layout)) {}

  std::vector<ReferenceLogits> run(const Step& step);
  // Of the step before, in weights.
  const std::vector<std::vector<double>>& masses() const { return masses_; }

 private:
  using Row = std::vector<double>;
  using Matrix = std::vector<Row>;

  void apply(const Embed& op);
  void apply(const NormQkv& op);
  void apply(const SpanAttention& op);
  void apply(const AttentionMass& op);
  void apply(const LinearResidual& op);
  void apply(const NormGatedFfn& op);
  void apply(const Logits& op);

  // A slot that a row sees: its number in the sequence, its score for a head, its value.
  struct Seen {
    size_t slot;
    double score;
    Row value;
  };
  std::vector<Seen> look(const AttentionShape& shape, float scale, Value in, uint32_t row,
                         uint32_t head) const;
  Row rotated(Row head, const Rope& rope, double position) const;
  Row stored(Row head) const;
  uint32_t group_of(uint32_t layer) const;

  Graph graph_;
  KvLayout layout_;
  const Step* step_ = nullptr;
  std::vector<Matrix> values_;
  std::vector<ReferenceLogits> results_;
  std::vector<std::vector<double>> masses_;
  // (layer, page, slot, kv head) -> key and value; absent means zero.
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>, std::pair<Row, Row>> kv_;
};

}  // namespace tessera::test
