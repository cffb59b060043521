// One step, checked and scheduled.
#pragma once

#include <atomic>
#include <memory>
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
  uint32_t max_kv_heads = 0;
};

// Consecutive rows of one sequence, which attention computes together.
struct RowBlock {
  uint32_t first;
  uint32_t rows;
};

// Up to kPieceSlots slots of a span, counted from its start. Attention merges the tiles of a piece,
// then the pieces in order, whoever computes them.
struct AttentionPiece {
  uint32_t span;   // within its sequence
  uint32_t first;  // slot
};

// A row that sees a shared piece through a span of the step.
struct PieceReader {
  uint32_t row;
  uint32_t span;
};

// Slots that pieces of several blocks have in common: in the same pages, whatever each block's
// masks, positions and frame are. All their rows are computed together.
struct SharedPiece {
  uint32_t first, end;  // slots of each reader's span, in whole tiles
  uint32_t first_reader, readers;
  // Readers are computed in so many parts, whose number is counted over all pieces.
  uint32_t first_part, parts;

  uint32_t begin(uint32_t part) const {
    return first_reader + static_cast<uint32_t>(uint64_t{readers} * part / parts);
  }
};

// What of a block's piece is shared: the slots before `end`, of which the block's rows are readers
// first_reader, first_reader + 1, ...
struct PieceShare {
  uint32_t first_reader = UINT32_MAX;  // nothing is
  uint32_t end = 0;

  explicit operator bool() const { return first_reader != UINT32_MAX; }
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
  static constexpr uint32_t kMaxBlock = 8;        // rows
  static constexpr uint32_t kPieceSlots = 512;    // 8 tiles
  static constexpr uint32_t kMostReaders = 4096;  // of a step: what they see takes scratch

  // `uses` has one entry a Rope of the graph.
  Plan(const Graph& graph, StepLimits limits, std::vector<RopeUse> uses, uint32_t threads);

  // Checks and takes a copy. Throws invalid_argument; the plan is then empty.
  void set(const Step& step);

  const Step& step() const { return step_; }
  uint32_t rows() const { return step_.rows(); }
  uint32_t page_slots() const { return limits_.page_slots; }
  const std::vector<RowBlock>& blocks() const { return blocks_; }
  // Of the sequence of a block's rows.
  std::span<const AttentionPiece> pieces(uint32_t block) const {
    return pieces_of(step_.sequence_of[blocks_[block].first]);
  }
  std::span<const AttentionPiece> pieces_of(uint32_t sequence) const;
  // Number of pieces of all blocks before it.
  uint32_t pieces_before(uint32_t block) const { return pieces_before_[block]; }
  // One counter a block and KV head, zero between ops.
  std::atomic<uint32_t>& pieces_done(uint32_t block, uint32_t kv_head) const {
    return pieces_done_[size_t{block} * max_kv_heads_ + kv_head];
  }
  const std::vector<SharedPiece>& shared_pieces() const { return shared_pieces_; }
  const std::vector<PieceReader>& readers() const { return readers_; }
  // Of a block's piece, given by its number among the block's.
  PieceShare share(uint32_t block, uint32_t piece) const {
    return shares_.empty() ? PieceShare{} : shares_[pieces_before_[block] + piece];
  }
  const StepRotations& rotations(uint32_t rope) const { return rotations_[rope]; }

  // Logical position of a slot of a span.
  int64_t slot_position(const SpanEntry& span, uint32_t slot) const {
    return span.first_position == kNoPositions
               ? int64_t{span.logical_start} + slot
               : step_.slot_positions[size_t{span.first_position} + slot];
  }

 private:
  void split_rows();
  void split_spans();
  void rotate(uint32_t rope);

  // A piece of a block that may lie in the pages of another's.
  struct Candidate {
    uint32_t block, piece;
    uint32_t span;
    uint32_t first;           // slot
    uint32_t entry, entries;  // of the page tables
  };
  void share_pieces();
  void find_candidates();
  uint32_t common_tiles(const Candidate& a, const Candidate& b) const;
  void add_shared(std::span<const Candidate> blocks, uint32_t tiles);

  StepLimits limits_;
  std::vector<RopeUse> uses_;
  uint32_t threads_;
  Step step_;
  std::vector<RowBlock> blocks_;
  std::vector<AttentionPiece> pieces_;
  std::vector<uint32_t> first_piece_;    // of sequences, and the end
  std::vector<uint32_t> pieces_before_;  // of blocks, and the end
  std::unique_ptr<std::atomic<uint32_t>[]> pieces_done_;
  size_t pieces_done_size_ = 0;
  uint32_t min_kv_heads_ = UINT32_MAX, max_kv_heads_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<SharedPiece> shared_pieces_;
  std::vector<PieceReader> readers_;
  std::vector<PieceShare> shares_;  // of pieces of blocks; empty: nothing is shared
  std::vector<RopeTable> tables_;
  std::vector<StepRotations> rotations_;
};

}  // namespace tessera::cpu
