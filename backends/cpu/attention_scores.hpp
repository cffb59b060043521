// Scores of a block of rows with the slots of spans: what the ops that read keys share.
//
// An item is a block of up to 8 rows of one sequence and one KV head with its group of query heads.
// Queries are numbered [row of the block][head of the group].
#pragma once

#include "backends/cpu/kv_tile.hpp"
#include "backends/cpu/op.hpp"

namespace tessera::cpu {

class AttentionScores {
 public:
  // Scratch of one item, and what it knows of the tile at hand.
  struct Item {
    const Plan& plan;
    RowBlock block;
    uint32_t kv_head;
    float* tile = nullptr;                    // of KvPlanes, or [head_dim][64] rotated keys
    float* queries = nullptr;                 // [query][padded()]: scaled and rotated
    float* scores = nullptr;                  // [query][64]
    uint32_t rotation[Plan::kMaxBlock] = {};  // of `queries`, by row
    uint64_t visible[Plan::kMaxBlock] = {};   // slots of the tile that the row sees
  };

  // Queries of `in`; checks the shape and notes the rotations that it needs.
  AttentionScores(Value in, float scale, const AttentionShape& shape, Compiler& compiler);

  const AttentionShape& shape() const { return shape_; }
  const KvPlanes& planes() const { return planes_; }
  size_t kv_type() const { return type_; }
  uint32_t group() const { return group_; }    // query heads a KV head
  uint32_t padded() const { return padded_; }  // head_dim, padded to kLanes
  uint32_t max_queries() const { return Plan::kMaxBlock * group_; }

  // Scratch of an item, and an item in `memory` of so many floats, without a tile yet.
  size_t item_floats() const;
  Item item(const Plan& plan, RowBlock block, uint32_t kv_head, float* memory) const;

  // Sets which of the 64 slots from `first` of a span each row sees; whether one sees any.
  bool see(Item& item, const SpanEntry& span, uint32_t first) const;
  // Makes the queries those for a span, given by its number in the sequence.
  void turn(Item& item, uint32_t span) const;
  // Scores of `queries` queries from `query` on with slots first .. first + count - 1 of a span of
  // the step. `next`: what is read after this.
  void score(const Item& item, uint32_t span, uint32_t first, uint32_t count, const KvTile& next,
             uint32_t query, uint32_t queries) const;

 private:
  void turn_row(Item& item, uint32_t row, uint32_t rotation) const;

  const Kernels& kernels_;
  AttentionShape shape_;
  float scale_;
  CpuPages::LayerPlace place_;
  KvPlanes planes_;
  size_t type_;
  uint32_t window_;
  uint32_t pairs_;
  bool halves_;
  Matrix in_;
  uint32_t group_;
  uint32_t padded_;
};

// The next address that is a multiple of 64 bytes.
inline float* aligned(float* at) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(at) + 63) & ~uintptr_t{63});
}

}  // namespace tessera::cpu
