// Attention over spans of paged KV, with an online softmax over tiles of 64 slots, pieces of 512.
//
// An item is a block of up to 8 rows of one sequence and one KV head with its group of query heads.
// A tile of keys and values is read once for all queries of the item; each query's arithmetic is
// the same as alone. Where there are few items (decode), threads share the pieces of an item, and
// the one that computes the last of them merges all in order: the same operations again.
#include <algorithm>
#include <bit>
#include <cmath>

#include "backends/cpu/kv_tile.hpp"
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
  uint64_t shared_floats(const Plan& plan) const override;

 private:
  // What one or more pieces give: for each query the softmax so far and the sum of its values.
  struct Sums {
    SoftmaxState* states;  // [query]
    float* sum;            // [query][padded_]
  };
  // Scratch of one item. Queries are numbered [row of the block][head of the group].
  struct Item {
    const Plan& plan;
    RowBlock block;
    uint32_t kv_head;
    float* tile = nullptr;     // of KvPlanes, or [head_dim][64] rotated keys
    float* queries = nullptr;  // [query][padded_]: scaled and rotated
    float* scores = nullptr;   // [query][64]
    float* rescale = nullptr;  // [query]: what a tile multiplies the sum by
    Sums piece = {};
    uint32_t rotation[Plan::kMaxBlock] = {};  // of `queries`, by row
    uint64_t visible[Plan::kMaxBlock] = {};   // slots of the tile that the row sees
  };

  uint32_t max_queries() const { return Plan::kMaxBlock * group_; }
  size_t sums_floats() const;
  Sums sums_at(float* memory) const;
  size_t local_floats() const;
  bool shares_pieces(const Plan& plan) const;

  void share_pieces(Worker& worker) const;
  Item item(Worker& worker, uint32_t block, uint32_t kv_head) const;
  void clear(const Sums& sums, uint32_t queries) const;
  void merge(const Sums& total, const Sums& piece, uint32_t queries) const;
  void compute(Item& item, const AttentionPiece& piece, const Sums& sums) const;
  bool see(Item& item, const SpanEntry& span, uint32_t first) const;
  void turn(Item& item, uint32_t row, uint32_t rotation) const;
  void tile(Item& item, uint32_t span, uint32_t first, const KvTile& next, const Sums& sums) const;
  void score(const Item& item, uint32_t span, uint32_t first, uint32_t count, const KvTile& next,
             uint32_t query, uint32_t queries) const;
  void finish(const Item& item, const Sums& total) const;

  const Kernels& kernels_;
  AttentionShape shape_;
  float scale_;
  CpuPages::LayerPlace place_;
  KvPlanes planes_;
  size_t type_;
  uint32_t window_;
  uint32_t threads_;
  uint32_t pairs_;
  bool halves_;
  Matrix in_, out_;
  uint32_t group_;   // query heads a KV head
  uint32_t padded_;  // head_dim, padded to kLanes
};

SpanAttentionOp::SpanAttentionOp(const SpanAttention& op, Compiler& c)
    : kernels_(c.kernels),
      shape_((c.check_attention(op.shape, c.graph.widths[op.in]), op.shape)),
      scale_(op.scale),
      place_(c.pages.place(shape_.layer)),
      planes_(c.pages, place_, shape_.kv_heads, shape_.head_dim),
      type_(static_cast<size_t>(c.pages.layout().type)),
      window_(c.pages.layout().groups[place_.group].window),
      threads_(c.options.threads),
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
  use.max_kv_heads = std::max(use.max_kv_heads, shape_.kv_heads);
}

size_t SpanAttentionOp::sums_floats() const {
  return max_queries() * (padded_ + sizeof(SoftmaxState) / sizeof(float));
}

SpanAttentionOp::Sums SpanAttentionOp::sums_at(float* memory) const {
  return {reinterpret_cast<SoftmaxState*>(memory + size_t{max_queries()} * padded_), memory};
}

size_t SpanAttentionOp::local_floats() const {
  const size_t keys =
      shape_.key_form == KeyForm::unrotated ? size_t{kTileSlots} * shape_.head_dim : 0;
  return planes_.scratch_floats() + keys + max_queries() * (padded_ + kTileSlots + 1) +
         2 * sums_floats() + 3 * size_t{kLanes};
}

// Pieces are shared where whole items would leave threads without work.
bool SpanAttentionOp::shares_pieces(const Plan& plan) const {
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks().size());
  if (threads_ == 1 || uint64_t{blocks} * shape_.kv_heads >= 4 * uint64_t{threads_}) return false;
  for (uint32_t b = 0; b < blocks; ++b) {
    if (plan.pieces(b).empty()) return false;
  }
  return plan.pieces_before(blocks) > blocks;
}

uint64_t SpanAttentionOp::shared_floats(const Plan& plan) const {
  if (!shares_pieces(plan)) return 0;
  const uint64_t pieces = plan.pieces_before(static_cast<uint32_t>(plan.blocks().size()));
  return pieces * shape_.kv_heads * sums_floats();
}

SpanAttentionOp::Item SpanAttentionOp::item(Worker& worker, uint32_t block,
                                            uint32_t kv_head) const {
  Item item = {.plan = worker.plan, .block = worker.plan.blocks()[block], .kv_head = kv_head};
  const auto aligned = [](float* at) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(at) + 63) & ~uintptr_t{63});
  };
  item.tile = worker.local;
  item.queries = item.tile + planes_.scratch_floats();
  if (shape_.key_form == KeyForm::unrotated) item.queries += size_t{kTileSlots} * shape_.head_dim;
  item.queries = aligned(item.queries);
  item.scores = item.queries + size_t{max_queries()} * padded_;
  item.rescale = item.scores + size_t{max_queries()} * kTileSlots;
  item.piece = sums_at(aligned(item.rescale + max_queries()));
  std::fill_n(item.queries, size_t{item.block.rows} * group_ * padded_, 0.0f);
  std::fill_n(item.rotation, Plan::kMaxBlock, UINT32_MAX);
  return item;
}

void SpanAttentionOp::run(Worker& worker) const {
  if (shares_pieces(worker.plan)) return share_pieces(worker);
  const uint32_t blocks = static_cast<uint32_t>(worker.plan.blocks().size());
  worker.team.parallel(blocks * shape_.kv_heads, [&](uint32_t i) {
    // The last rows of a prompt see most; they go first, so that no thread ends with one alone.
    const uint32_t block = blocks - 1 - i / shape_.kv_heads;
    Item it = item(worker, block, i % shape_.kv_heads);
    const uint32_t queries = it.block.rows * group_;
    const Sums total = sums_at(it.piece.sum + sums_floats());
    clear(total, queries);
    for (const AttentionPiece& piece : worker.plan.pieces(block)) {
      compute(it, piece, it.piece);
      merge(total, it.piece, queries);
    }
    finish(it, total);
  });
}

void SpanAttentionOp::share_pieces(Worker& worker) const {
  const Plan& plan = worker.plan;
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks().size());
  worker.team.parallel(plan.pieces_before(blocks) * shape_.kv_heads, [&](uint32_t i) {
    const uint32_t index = i / shape_.kv_heads, kv_head = i % shape_.kv_heads;
    uint32_t block = 0;
    while (plan.pieces_before(block + 1) <= index) ++block;
    const uint32_t first = plan.pieces_before(block);
    const std::span<const AttentionPiece> pieces = plan.pieces(block);
    const auto sums_of = [&](uint32_t piece) {
      return sums_at(worker.shared +
                     (size_t{first + piece} * shape_.kv_heads + kv_head) * sums_floats());
    };
    Item it = item(worker, block, kv_head);
    compute(it, pieces[index - first], sums_of(index - first));
    std::atomic<uint32_t>& done = plan.pieces_done(block, kv_head);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces.size()) return;
    done.store(0, std::memory_order_relaxed);
    const uint32_t queries = it.block.rows * group_;
    clear(it.piece, queries);
    for (uint32_t p = 0; p < pieces.size(); ++p) merge(it.piece, sums_of(p), queries);
    finish(it, it.piece);
  });
}

void SpanAttentionOp::clear(const Sums& sums, uint32_t queries) const {
  std::fill_n(sums.states, queries, SoftmaxState{-INFINITY, 0.0f});
  std::fill_n(sums.sum, size_t{queries} * padded_, 0.0f);
}

void SpanAttentionOp::merge(const Sums& total, const Sums& piece, uint32_t queries) const {
  for (uint32_t i = 0; i < queries; ++i) {
    kernels_.merge(total.states[i], total.sum + size_t{i} * padded_, piece.states[i],
                   piece.sum + size_t{i} * padded_, padded_);
  }
}

void SpanAttentionOp::compute(Item& item, const AttentionPiece& piece, const Sums& sums) const {
  clear(sums, item.block.rows * group_);
  const Step& step = item.plan.step();
  const SequenceEntry& sequence = step.sequences[step.sequence_of[item.block.first]];
  const uint32_t span = sequence.first_span + piece.span;
  const SpanEntry& entry = step.spans[span];
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  const uint32_t end = std::min(entry.slots, piece.first + Plan::kPieceSlots);
  for (uint32_t first = piece.first; first < end; first += kTileSlots) {
    if (!see(item, entry, first)) continue;
    for (uint32_t r = 0; r < item.block.rows; ++r) {
      const uint32_t row = item.block.first + r;
      turn(item, r,
           shape_.key_form == KeyForm::local
               ? rotations.of_query_in_span[rotations.first_query[row] + piece.span]
               : rotations.of_query[row]);
    }
    KvTile next = {};
    if (first + kTileSlots < end && planes_.direct()) {
      const uint32_t count = std::min(kTileSlots, entry.slots - first - kTileSlots);
      next =
          planes_.tile(item.plan, entry, first + kTileSlots, count, item.kv_head, false, nullptr);
    }
    tile(item, span, first, next, sums);
  }
}

// Sets which of the 64 slots from `first` each row sees; returns whether one sees any.
bool SpanAttentionOp::see(Item& item, const SpanEntry& span, uint32_t first) const {
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
  return any != 0;
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

// Scores of `queries` queries from `query` on with slots first .. first + count - 1.
void SpanAttentionOp::score(const Item& item, uint32_t span, uint32_t first, uint32_t count,
                            const KvTile& next, uint32_t query, uint32_t queries) const {
  const SpanEntry& entry = item.plan.step().spans[span];
  ScoreArgs args = {item.queries + size_t{query} * padded_,
                    padded_,
                    queries,
                    shape_.head_dim,
                    planes_.tile(item.plan, entry, first, count, item.kv_head, false, item.tile),
                    item.scores + size_t{query} * kTileSlots,
                    next};
  if (shape_.key_form == KeyForm::local) return kernels_.score[type_](args);

  float* keys = item.tile + planes_.scratch_floats();
  kernels_.load_keys[type_](args.keys, shape_.head_dim, keys);
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  for (uint32_t s = 0; s < count; ++s) {
    const float* angles = rotations.set[rotations.of_slot[rotations.first_slot[span] + first + s]];
    for (uint32_t i = 0; i < pairs_; ++i) {
      const float c = angles[i], sine = angles[pairs_ + i];
      float& a = keys[size_t{halves_ ? i : 2 * i} * kTileSlots + s];
      float& b = keys[size_t{halves_ ? pairs_ + i : 2 * i + 1} * kTileSlots + s];
      const float turned = a * c - b * sine;
      b = a * sine + b * c;
      a = turned;
    }
  }
  for (uint32_t g = 0; g < args.keys.groups; ++g) {
    args.keys.planes[g] = reinterpret_cast<const uint8_t*>(keys);
    args.keys.first[g] = g * kGroupSlots;
  }
  args.keys.plane_slots = kTileSlots;
  kernels_.score[static_cast<size_t>(KvType::f32)](args);
}

// `next`: the keys of the next tile.
void SpanAttentionOp::tile(Item& item, uint32_t span, uint32_t first, const KvTile& next,
                           const Sums& sums) const {
  const SpanEntry& entry = item.plan.step().spans[span];
  // Runs of rows that see something of this tile; the others keep their state.
  for (uint32_t begin = 0, end; begin < item.block.rows; begin = end) {
    end = begin + 1;
    if (item.visible[begin] == 0) continue;
    uint64_t wanted = item.visible[begin];
    while (end < item.block.rows && item.visible[end] != 0) wanted |= item.visible[end++];
    const uint32_t count = static_cast<uint32_t>(std::bit_width(wanted));
    const uint32_t slots = (count + kLanes - 1) / kLanes * kLanes;
    const uint32_t query = begin * group_, queries = (end - begin) * group_;
    const bool direct = planes_.direct();  // otherwise keys and values take turns in the scratch
    const auto read_values = [&] {
      return planes_.tile(item.plan, entry, first, count, item.kv_head, true, item.tile);
    };
    KvTile values = direct ? read_values() : KvTile{};
    score(item, span, first, count, values, query, queries);
    for (uint32_t q = query; q < query + queries; ++q) {
      item.rescale[q] = kernels_.softmax_tile(item.scores + size_t{q} * kTileSlots, slots,
                                              item.visible[q / group_], sums.states[q]);
    }
    if (!direct) values = read_values();
    kernels_.weigh[type_]({item.scores + size_t{query} * kTileSlots, item.rescale + query, queries,
                           shape_.head_dim, values, wanted, sums.sum + size_t{query} * padded_,
                           padded_, next});
  }
}

void SpanAttentionOp::finish(const Item& item, const Sums& total) const {
  for (uint32_t r = 0; r < item.block.rows; ++r) {
    float* out = out_.row(item.block.first + r) + size_t{item.kv_head} * group_ * shape_.head_dim;
    for (uint32_t g = 0; g < group_; ++g, out += shape_.head_dim) {
      const size_t query = size_t{r} * group_ + g;
      const float* sum = total.sum + query * padded_;
      // The largest weight is 1, so the sum is 0 only where no slot was visible.
      const float inverse = total.states[query].sum == 0 ? 0.0f : 1.0f / total.states[query].sum;
      for (uint32_t d = 0; d < shape_.head_dim; ++d) out[d] = sum[d] * inverse;
    }
  }
}

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const SpanAttention& op, Compiler& c) {
  return std::make_unique<SpanAttentionOp>(op, c);
}

}  // namespace tessera::cpu
