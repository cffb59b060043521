// Attention over spans of paged KV, with an online softmax over tiles of 64 slots.
//
// An item is a block of up to 8 rows of one sequence and one KV head with its group of query heads.
// A tile of keys and values is read once for all queries of the item; each query's arithmetic is
// the same as alone.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

constexpr uint64_t low_bits(uint64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

class SpanAttentionOp final : public CompiledOp {
 public:
  SpanAttentionOp(const SpanAttention& op, Compiler& c);
  void run(Worker& worker) const override;

 private:
  // Scratch of one item. Queries are numbered [row of the block][head of the group].
  struct Item {
    const Plan& plan;
    RowBlock block;
    uint32_t kv_head;
    float* tile;                              // [64][padded_]: keys or values
    float* keys = nullptr;                    // [padded_][64]: keys, transposed
    float* queries = nullptr;                 // [query][padded_]: scaled and rotated
    float* scores = nullptr;                  // [query][64]
    float* part = nullptr;                    // [query][padded_]: weighted values of one tile
    float* sum = nullptr;                     // [query][padded_]: weighted values so far
    float* rescale = nullptr;                 // [query]: what a tile multiplies `sum` by
    SoftmaxState* states = nullptr;           // [query]
    uint32_t rotation[Plan::kMaxBlock] = {};  // of `queries`, by row
    uint64_t visible[Plan::kMaxBlock] = {};   // slots of the tile that the row sees
  };

  size_t local_floats() const;
  void start(Item& item) const;
  void span(Item& item, uint32_t index, uint32_t span) const;
  uint64_t see(Item& item, const SpanEntry& span, uint32_t first) const;
  void turn(Item& item, uint32_t row, uint32_t rotation) const;
  void read_tile(const Item& item, uint32_t span, uint32_t first, uint64_t wanted,
                 bool values) const;
  void tile(Item& item, uint32_t span, uint32_t first, uint64_t wanted) const;
  void finish(Item& item) const;

  const Kernels& kernels_;
  const CpuPages& pages_;
  AttentionShape shape_;
  float scale_;
  CpuPages::LayerPlace place_;
  KvType type_;
  uint32_t window_;
  uint32_t pairs_;
  bool halves_;
  Matrix in_, out_;
  uint32_t group_;   // query heads a KV head
  uint32_t padded_;  // head_dim, padded to kLanes
};

SpanAttentionOp::SpanAttentionOp(const SpanAttention& op, Compiler& c)
    : kernels_(c.kernels),
      pages_(c.pages),
      shape_((c.check_attention(op.shape, c.graph.widths[op.in]), op.shape)),
      scale_(op.scale),
      place_(c.pages.place(shape_.layer)),
      type_(c.pages.layout().type),
      window_(c.pages.layout().groups[place_.group].window),
      pairs_(static_cast<uint32_t>(c.graph.ropes[shape_.rope].frequencies.size())),
      halves_(c.graph.ropes[shape_.rope].pairing == RopePairing::halves),
      in_(c.values[op.in]),
      out_(c.values[op.out]),
      group_(shape_.heads / shape_.kv_heads),
      padded_((shape_.head_dim + kLanes - 1) / kLanes * kLanes) {
  c.check_width(op.out, "out", in_.width);
  if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
  c.need_local(local_floats());
  RopeUse& use = c.rope_uses[shape_.rope];
  (shape_.key_form == KeyForm::local ? use.local : use.unrotated) = true;
  use.min_kv_heads = std::min(use.min_kv_heads, shape_.kv_heads);
}

size_t SpanAttentionOp::local_floats() const {
  const size_t queries = size_t{Plan::kMaxBlock} * group_;
  const size_t state = sizeof(SoftmaxState) / sizeof(float);
  return 2 * size_t{kTileSlots} * padded_ + queries * (3 * padded_ + kTileSlots + 1 + state);
}

void SpanAttentionOp::run(Worker& worker) const {
  const std::vector<RowBlock>& blocks = worker.plan.blocks();
  const uint32_t items = static_cast<uint32_t>(blocks.size()) * shape_.kv_heads;
  worker.team.parallel(items, [&](uint32_t i) {
    // The last rows of a prompt see most; they go first, so that no thread ends with one alone.
    const RowBlock block = blocks[blocks.size() - 1 - i / shape_.kv_heads];
    const size_t queries = size_t{block.rows} * group_;
    Item item = {
        .plan = worker.plan, .block = block, .kv_head = i % shape_.kv_heads, .tile = worker.local};
    item.keys = item.tile + size_t{kTileSlots} * padded_;
    item.queries = item.keys + size_t{kTileSlots} * padded_;
    item.scores = item.queries + queries * padded_;
    item.part = item.scores + queries * kTileSlots;
    item.sum = item.part + queries * padded_;
    item.rescale = item.sum + queries * padded_;
    item.states = reinterpret_cast<SoftmaxState*>(item.rescale + queries);
    start(item);
    const Step& step = worker.plan.step();
    const SequenceEntry& sequence = step.sequences[step.sequence_of[block.first]];
    for (uint32_t s = 0; s < sequence.span_count; ++s) span(item, s, sequence.first_span + s);
    finish(item);
  });
}

void SpanAttentionOp::start(Item& item) const {
  const uint32_t queries = item.block.rows * group_;
  std::fill_n(item.queries, size_t{queries} * padded_, 0.0f);
  std::fill_n(item.sum, size_t{queries} * padded_, 0.0f);
  std::fill_n(item.states, queries, SoftmaxState{-INFINITY, 0.0f});
  std::fill_n(item.rotation, Plan::kMaxBlock, UINT32_MAX);
}

// `index`: of the span within its sequence.
void SpanAttentionOp::span(Item& item, uint32_t index, uint32_t span) const {
  const SpanEntry& entry = item.plan.step().spans[span];
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  for (uint32_t first = 0; first < entry.slots; first += kTileSlots) {
    const uint64_t wanted = see(item, entry, first);
    if (wanted == 0) continue;
    for (uint32_t r = 0; r < item.block.rows; ++r) {
      const uint32_t row = item.block.first + r;
      turn(item, r,
           shape_.key_form == KeyForm::local
               ? rotations.of_query_in_span[rotations.first_query[row] + index]
               : rotations.of_query[row]);
    }
    tile(item, span, first, wanted);
  }
}

// Sets which of the 64 slots from `first` each row sees; returns the union.
uint64_t SpanAttentionOp::see(Item& item, const SpanEntry& span, uint32_t first) const {
  const Step& step = item.plan.step();
  const uint32_t page_slots = item.plan.page_slots();
  const uint32_t slots = std::min(kTileSlots, span.slots - first);
  uint64_t valid = 0;
  for (uint32_t s = 0; s < slots; s += page_slots) {
    valid |= (step.masks[span.first_entry + (first + s) / page_slots] & low_bits(page_slots)) << s;
  }
  valid &= low_bits(slots);
  uint64_t any = 0;
  for (uint32_t r = 0; r < item.block.rows; ++r) {
    // Visible positions: low <= position <= high.
    const int64_t high = step.positions[item.block.first + r];
    const int64_t low = window_ == 0 ? INT64_MIN : high - window_ + 1;
    uint64_t seen = 0;
    if (span.first_position == kNoPositions) {
      const int64_t start = int64_t{span.logical_start} + first;
      if (high >= start) seen = low_bits(static_cast<uint64_t>(high - start) + 1);
      if (low > start) seen &= ~low_bits(static_cast<uint64_t>(low - start));
    } else {
      for (uint64_t left = valid; left != 0; left &= left - 1) {
        const uint32_t slot = static_cast<uint32_t>(std::countr_zero(left));
        const int64_t position = item.plan.slot_position(span, first + slot);
        if (position >= low && position <= high) seen |= uint64_t{1} << slot;
      }
    }
    item.visible[r] = valid & seen;
    any |= item.visible[r];
  }
  return any;
}

// Makes the queries of a row those of a rotation.
void SpanAttentionOp::turn(Item& item, uint32_t row, uint32_t rotation) const {
  if (item.rotation[row] == rotation) return;
  item.rotation[row] = rotation;
  const float* angles = item.plan.rotations(shape_.rope).set[rotation];
  const float* q =
      in_.row(item.block.first + row) + size_t{item.kv_head} * group_ * shape_.head_dim;
  for (uint32_t g = 0; g < group_; ++g, q += shape_.head_dim) {
    float* to = item.queries + (size_t{row} * group_ + g) * padded_;
    for (uint32_t d = 0; d < shape_.head_dim; ++d) to[d] = q[d] * scale_;
    kernels_.rotate(to, angles, angles + pairs_, pairs_, halves_);
  }
}

// Reads the `wanted` slots from `first` on; the others become zero.
void SpanAttentionOp::read_tile(const Item& item, uint32_t span, uint32_t first, uint64_t wanted,
                                bool values) const {
  const Step& step = item.plan.step();
  const std::vector<uint32_t>& table = step.page_tables[place_.group];
  const SpanEntry& entry = step.spans[span];
  const uint32_t page_slots = item.plan.page_slots();
  const uint64_t head = head_bytes(type_, shape_.head_dim);
  const uint64_t plane = (uint64_t{values} * shape_.kv_heads + item.kv_head) * page_slots * head;
  const auto load = kernels_.load_head[static_cast<size_t>(type_)];
  const bool rotate = shape_.key_form == KeyForm::unrotated && !values;
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  const uint32_t count = static_cast<uint32_t>(std::bit_width(wanted));
  float* to = item.tile;
  for (uint32_t s = 0; s < kTileSlots && s < (count + kLanes - 1) / kLanes * kLanes;
       ++s, to += padded_) {
    uint32_t from = 0;
    if (wanted >> s & 1) {
      const uint32_t slot = first + s;
      const uint32_t page = table[entry.first_entry + slot / page_slots];
      load(pages_.page(place_.group, page) + place_.offset + plane + slot % page_slots * head,
           shape_.head_dim, to);
      if (rotate) {
        const float* angles = rotations.set[rotations.of_slot[rotations.first_slot[span] + slot]];
        kernels_.rotate(to, angles, angles + pairs_, pairs_, halves_);
      }
      from = shape_.head_dim;
    }
    std::fill(to + from, to + padded_, 0.0f);
  }
}

void SpanAttentionOp::tile(Item& item, uint32_t span, uint32_t first, uint64_t wanted) const {
  // Rows that see nothing of this tile at either end of the block are left out.
  uint32_t begin = 0, end = item.block.rows;
  while (item.visible[begin] == 0) ++begin;
  while (item.visible[end - 1] == 0) --end;
  const uint32_t queries = (end - begin) * group_;
  const uint32_t count = static_cast<uint32_t>(std::bit_width(wanted));
  const uint32_t slots = (count + kLanes - 1) / kLanes * kLanes;
  float* scores = item.scores + size_t{begin} * group_ * kTileSlots;
  float* q = item.queries + size_t{begin} * group_ * padded_;
  float* part = item.part + size_t{begin} * group_ * padded_;

  read_tile(item, span, first, wanted, false);
  kernels_.transpose(item.tile, padded_, slots, padded_, item.keys);
  kernels_.weigh(
      {q, padded_, queries, item.keys, kTileSlots, shape_.head_dim, slots, scores, kTileSlots});
  // Turns scores into weights; keeps what each sum so far must be multiplied by. Rows between the
  // ends that see nothing get weight 0 and keep their state.
  for (uint32_t i = 0; i < queries; ++i) {
    const uint32_t query = begin * group_ + i;
    const uint64_t visible = item.visible[query / group_];
    float* s = item.scores + size_t{query} * kTileSlots;
    if (visible != 0) {
      item.rescale[query] = kernels_.softmax_tile(s, slots, visible, item.states[query]);
    } else {
      std::fill_n(s, slots, 0.0f);
    }
  }

  read_tile(item, span, first, wanted, true);
  kernels_.weigh({scores, kTileSlots, queries, item.tile, padded_, count, padded_, part, padded_});
  for (uint32_t i = 0; i < queries; ++i) {
    const uint32_t query = begin * group_ + i;
    if (item.visible[query / group_] == 0) continue;
    kernels_.merge(item.sum + size_t{query} * padded_, item.part + size_t{query} * padded_,
                   item.rescale[query], padded_);
  }
}

void SpanAttentionOp::finish(Item& item) const {
  for (uint32_t r = 0; r < item.block.rows; ++r) {
    float* out = out_.row(item.block.first + r) + size_t{item.kv_head} * group_ * shape_.head_dim;
    for (uint32_t g = 0; g < group_; ++g, out += shape_.head_dim) {
      const size_t query = size_t{r} * group_ + g;
      const float* sum = item.sum + query * padded_;
      // The largest weight is 1, so the sum is 0 only where no slot was visible.
      const float inverse = item.states[query].sum > 0 ? 1.0f / item.states[query].sum : 0.0f;
      for (uint32_t d = 0; d < shape_.head_dim; ++d) out[d] = sum[d] * inverse;
    }
  }
}

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const SpanAttention& op, Compiler& c) {
  return std::make_unique<SpanAttentionOp>(op, c);
}

}  // namespace tessera::cpu
