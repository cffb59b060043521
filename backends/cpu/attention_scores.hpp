// Scores of rows with the slots of spans: what the ops that read keys share.
//
// An item is up to 8 rows and one KV head with its group of query heads. Each row sees the tile at
// hand through a span of its own sequence; where these are several, they lie in the same pages.
// Queries are numbered [row of the item][head of the group].
#pragma once

#include "backends/cpu/kv_tile.hpp"
#include "backends/cpu/op.hpp"

namespace tessera::cpu {

class AttentionScores {
 public:
  // Scratch of one item, and what it knows of the tile at hand.
  struct Item {
    const Plan& plan;
    uint32_t kv_head;
    uint32_t rows = 0;
    PieceReader readers[Plan::kMaxBlock] = {};  // of rows
    float* tile = nullptr;                      // of KvPlanes, or [head_dim][64] rotated keys
    float* queries = nullptr;                   // [query][padded()]: scaled and rotated
    float* scores = nullptr;                    // [query][64]
    uint32_t rotation[Plan::kMaxBlock] = {};    // of `queries`, by row
    uint64_t visible[Plan::kMaxBlock] = {};     // slots of the tile that the row sees
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
  Item item(const Plan& plan, std::span<const PieceReader> readers, uint32_t kv_head,
            float* memory) const;
  // Of a block, without spans yet.
  Item item(const Plan& plan, RowBlock block, uint32_t kv_head, float* memory) const;
  // Makes all rows look through a span of the step.
  static void look(Item& item, uint32_t span);

  // Sets which of the 64 slots from `first` each row sees of its span; whether one sees any.
  bool see(Item& item, uint32_t first) const;
  // Makes the queries those for the spans.
  void turn(Item& item) const;
  // Scores of `queries` queries from `query` on with slots first .. first + count - 1. `next`: what
  // is read after this.
  void score(const Item& item, uint32_t first, uint32_t count, const KvTile& next, uint32_t query,
             uint32_t queries) const;
  // The span through which a query looks.
  const SpanEntry& span_of(const Item& item, uint32_t query) const {
    return item.plan.step().spans[item.readers[query / group_].span];
  }

 private:
  Item empty_item(const Plan& plan, uint32_t rows, uint32_t kv_head, float* memory) const;
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
