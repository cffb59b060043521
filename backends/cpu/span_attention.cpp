// Attention over spans of paged KV, with an online softmax over tiles of 64 slots, pieces of 512.
//
// A tile of keys and values is read once for all queries of the item; each query's arithmetic is
// the same as alone. Where there are few items (decode), threads share the pieces of an item, and
// the one that computes the last of them merges all in order: the same operations again.
#include <algorithm>
#include <bit>
#include <cmath>

#include "backends/cpu/attention_scores.hpp"

namespace tessera::cpu {
namespace {

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
  // Scratch of one item.
  struct Item : AttentionScores::Item {
    float* rescale = nullptr;  // [query]: what a tile multiplies the sum by
    Sums piece = {};
  };

  size_t sums_floats() const;
  Sums sums_at(float* memory) const;
  size_t local_floats() const;
  bool shares_pieces(const Plan& plan) const;

  void share_pieces(Worker& worker) const;
  Item item(Worker& worker, uint32_t block, uint32_t kv_head) const;
  void clear(const Sums& sums, uint32_t queries) const;
  void merge(const Sums& total, const Sums& piece, uint32_t queries) const;
  void compute(Item& item, const AttentionPiece& piece, const Sums& sums) const;
  void tile(Item& item, uint32_t span, uint32_t first, const KvTile& next, const Sums& sums) const;
  void finish(const Item& item, const Sums& total) const;

  const Kernels& kernels_;
  AttentionScores scores_;
  const AttentionShape& shape_;
  uint32_t threads_;
  Matrix out_, log_sum_;
  uint32_t group_;
  uint32_t padded_;
};

SpanAttentionOp::SpanAttentionOp(const SpanAttention& op, Compiler& c)
    : kernels_(c.kernels),
      scores_(op.in, op.scale, op.shape, c),
      shape_(scores_.shape()),
      threads_(c.options.threads),
      out_(c.values[op.out]),
      group_(scores_.group()),
      padded_(scores_.padded()) {
  c.check_width(op.out, "out", c.graph.widths[op.in]);
  if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
  if (op.log_sum != kNoValue) {
    c.check_width(op.log_sum, "log_sum", shape_.heads);
    log_sum_ = c.values[op.log_sum];
  }
  c.need_local(local_floats());
}

size_t SpanAttentionOp::sums_floats() const {
  return scores_.max_queries() * (padded_ + sizeof(SoftmaxState) / sizeof(float));
}

SpanAttentionOp::Sums SpanAttentionOp::sums_at(float* memory) const {
  return {reinterpret_cast<SoftmaxState*>(memory + size_t{scores_.max_queries()} * padded_),
          memory};
}

size_t SpanAttentionOp::local_floats() const {
  return scores_.item_floats() + scores_.max_queries() + 2 * sums_floats() + size_t{kLanes};
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
  Item item = {scores_.item(worker.plan, worker.plan.blocks()[block], kv_head, worker.local)};
  item.rescale = item.scores + size_t{scores_.max_queries()} * kTileSlots;
  item.piece = sums_at(aligned(item.rescale + scores_.max_queries()));
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
  const KvPlanes& planes = scores_.planes();
  const uint32_t end = std::min(entry.slots, piece.first + Plan::kPieceSlots);
  for (uint32_t first = piece.first; first < end; first += kTileSlots) {
    if (!scores_.see(item, entry, first)) continue;
    scores_.turn(item, piece.span);
    KvTile next = {};
    if (first + kTileSlots < end && planes.direct()) {
      const uint32_t count = std::min(kTileSlots, entry.slots - first - kTileSlots);
      next = planes.tile(item.plan, entry, first + kTileSlots, count, item.kv_head, false, nullptr);
    }
    tile(item, span, first, next, sums);
  }
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
    const KvPlanes& planes = scores_.planes();
    const bool direct = planes.direct();  // otherwise keys and values take turns in the scratch
    const auto read_values = [&] {
      return planes.tile(item.plan, entry, first, count, item.kv_head, true, item.tile);
    };
    KvTile values = direct ? read_values() : KvTile{};
    scores_.score(item, span, first, count, values, query, queries);
    for (uint32_t q = query; q < query + queries; ++q) {
      item.rescale[q] = kernels_.softmax_tile(item.scores + size_t{q} * kTileSlots, slots,
                                              item.visible[q / group_], sums.states[q]);
    }
    if (!direct) values = read_values();
    kernels_.weigh[scores_.kv_type()]({item.scores + size_t{query} * kTileSlots,
                                       item.rescale + query, queries, shape_.head_dim, values,
                                       wanted, sums.sum + size_t{query} * padded_, padded_, next});
  }
}

void SpanAttentionOp::finish(const Item& item, const Sums& total) const {
  for (uint32_t r = 0; r < item.block.rows; ++r) {
    float* out = out_.row(item.block.first + r) + size_t{item.kv_head} * group_ * shape_.head_dim;
    for (uint32_t g = 0; g < group_; ++g, out += shape_.head_dim) {
      const size_t query = size_t{r} * group_ + g;
      const float* sum = total.sum + query * padded_;
      const SoftmaxState& state = total.states[query];
      // The largest weight is 1, so the sum is 0 only where no slot was visible.
      const float inverse = state.sum == 0 ? 0.0f : 1.0f / state.sum;
      for (uint32_t d = 0; d < shape_.head_dim; ++d) out[d] = sum[d] * inverse;
      if (log_sum_.data) {
        log_sum_.row(item.block.first + r)[item.kv_head * group_ + g] =
            state.sum == 0 ? -INFINITY : state.max + std::log(state.sum);
      }
    }
  }
}

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const SpanAttention& op, Compiler& c) {
  return std::make_unique<SpanAttentionOp>(op, c);
}

}  // namespace tessera::cpu
