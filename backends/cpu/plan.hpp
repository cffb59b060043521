// One step, checked and scheduled.
#pragma once

#include <span>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/rope.hpp"

namespace tessera::cpu {

// What a step must fit.
struct StepLimits {
  uint32_t vocabulary = 0;
  uint32_t max_rows = 0;
  uint32_t page_slots = 0;
  std::vector<uint32_t> page_counts;  // of layer groups
};

// Throws invalid_argument, naming the field, where the step is malformed.
void check_step(const Step& step, const StepLimits& limits);

// Which rotations of a Rope a graph asks for.
struct RopeUse {
  bool local = false;      // keys in the frame of their span
  bool unrotated = false;  // keys rotated on read
  uint32_t min_kv_heads = UINT32_MAX;
};

// Consecutive rows of one sequence, which attention computes together.
struct RowBlock {
  uint32_t first;
  uint32_t rows;
};

// Rotations of one Rope in one step; the vectors hold indices into `set`.
struct StepRotations {
  RotationSet set;
  std::vector<uint32_t> of_key;    // [row]: by the row's key position (local)
  std::vector<uint32_t> of_query;  // [row]: by the row's position (unrotated)
  // [first_query[row] + i]: by position - frame of span i of the row's sequence (local)
  std::vector<uint32_t> first_query;
  std::vector<uint32_t> of_query_in_span;
  // [first_slot[span] + slot]: by the slot's logical position (unrotated)
  std::vector<uint32_t> first_slot;
  std::vector<uint32_t> of_slot;
};

class Plan {
 public:
  static constexpr uint32_t kMaxBlock = 8;  // rows

  // `uses` has one entry a Rope of the graph.
  Plan(const Graph& graph, StepLimits limits, std::vector<RopeUse> uses, uint32_t threads);

  // Checks and takes a copy. Throws invalid_argument; the plan is then empty.
  void set(const Step& step);

  const Step& step() const { return step_; }
  uint32_t rows() const { return step_.rows(); }
  uint32_t page_slots() const { return limits_.page_slots; }
  const std::vector<RowBlock>& blocks() const { return blocks_; }
  const StepRotations& rotations(uint32_t rope) const { return rotations_[rope]; }

  // Logical position of a slot of a span.
  int64_t slot_position(const SpanEntry& span, uint32_t slot) const {
    return span.first_position == kNoPositions
               ? int64_t{span.logical_start} + slot
               : step_.slot_positions[size_t{span.first_position} + slot];
  }

 private:
  void split_rows();
  void rotate(uint32_t rope);

  StepLimits limits_;
  std::vector<RopeUse> uses_;
  uint32_t threads_;
  Step step_;
  std::vector<RowBlock> blocks_;
  std::vector<RopeTable> tables_;
  std::vector<StepRotations> rotations_;
};

}  // namespace tessera::cpu
