#include "backends/cpu/plan.hpp"

#include <algorithm>
#include <utility>

namespace tessera::cpu {

Plan::Plan(const Graph& graph, StepLimits limits, std::vector<RopeUse> uses, uint32_t threads)
    : limits_(std::move(limits)), uses_(std::move(uses)), threads_(threads) {
  for (const Rope& rope : graph.ropes) tables_.emplace_back(rope);
  rotations_.resize(graph.ropes.size());
  for (const RopeUse& use : uses_) {
    min_kv_heads_ = std::min(min_kv_heads_, use.min_kv_heads);
    max_kv_heads_ = std::max(max_kv_heads_, use.max_kv_heads);
  }
}

void Plan::set(const Step& step) {
  step_ = {};
  check_step(step, limits_);
  step_ = step;
  split_rows();
  split_spans();
  share_pieces();
  for (uint32_t rope = 0; rope < tables_.size(); ++rope) rotate(rope);
}

// Larger blocks read keys and values less often; smaller ones keep all threads busy.
void Plan::split_rows() {
  blocks_.clear();
  const uint64_t heads_of_rows = uint64_t{rows()} * min_kv_heads_;
  const uint32_t most = static_cast<uint32_t>(
      std::clamp<uint64_t>(heads_of_rows / (uint64_t{threads_} * 4), 1, kMaxBlock));
  for (uint32_t row = 0; row < rows(); ++row) {
    if (!blocks_.empty()) {
      RowBlock& block = blocks_.back();
      if (block.rows < most && step_.sequence_of[block.first] == step_.sequence_of[row]) {
        ++block.rows;
        continue;
      }
    }
    blocks_.push_back({row, 1});
  }
}

void Plan::split_spans() {
  pieces_.clear();
  first_piece_.clear();
  for (const SequenceEntry& sequence : step_.sequences) {
    first_piece_.push_back(static_cast<uint32_t>(pieces_.size()));
    for (uint32_t i = 0; i < sequence.span_count; ++i) {
      const uint32_t slots = step_.spans[sequence.first_span + i].slots;
      for (uint32_t first = 0; first < slots; first += kPieceSlots) pieces_.push_back({i, first});
    }
  }
  first_piece_.push_back(static_cast<uint32_t>(pieces_.size()));

  pieces_before_.assign(1, 0);
  for (uint32_t b = 0; b < blocks_.size(); ++b) {
    pieces_before_.push_back(pieces_before_.back() + static_cast<uint32_t>(pieces(b).size()));
  }
  const size_t counters = blocks_.size() * max_kv_heads_;
  if (counters > pieces_done_size_) {
    pieces_done_size_ = 0;
    pieces_done_ = std::make_unique<std::atomic<uint32_t>[]>(counters);
    pieces_done_size_ = counters;
  }
  // A stopped step leaves some behind.
  for (size_t i = 0; i < counters; ++i) pieces_done_[i].store(0, std::memory_order_relaxed);
}

std::span<const AttentionPiece> Plan::pieces_of(uint32_t sequence) const {
  return std::span(pieces_).subspan(first_piece_[sequence],
                                    first_piece_[sequence + 1] - first_piece_[sequence]);
}

void Plan::rotate(uint32_t rope) {
  RopeTable& table = tables_[rope];
  StepRotations& r = rotations_[rope];
  r.set.clear(table.pairs());
  r.of_key.clear();
  r.of_query.clear();
  r.first_query.clear();
  r.of_query_in_span.clear();
  r.first_slot.clear();
  r.of_slot.clear();
  if (uses_[rope].local) {
    for (uint32_t row = 0; row < rows(); ++row) {
      r.of_key.push_back(r.set.add(table, step_.key_positions[row]));
      r.first_query.push_back(static_cast<uint32_t>(r.of_query_in_span.size()));
      const SequenceEntry& sequence = step_.sequences[step_.sequence_of[row]];
      for (uint32_t i = 0; i < sequence.span_count; ++i) {
        const SpanEntry& span = step_.spans[sequence.first_span + i];
        const int64_t delta = int64_t{step_.positions[row]} - span.frame_start;
        r.of_query_in_span.push_back(r.set.add(table, delta));
      }
    }
  }
  if (uses_[rope].unrotated) {
    for (const int32_t position : step_.positions) {
      r.of_query.push_back(r.set.add(table, position));
    }
    for (const SpanEntry& span : step_.spans) {
      r.first_slot.push_back(static_cast<uint32_t>(r.of_slot.size()));
      for (uint32_t slot = 0; slot < span.slots; ++slot) {
        r.of_slot.push_back(r.set.add(table, slot_position(span, slot)));
      }
    }
  }
}

}  // namespace tessera::cpu
