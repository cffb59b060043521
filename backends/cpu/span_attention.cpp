// Attention over spans of paged KV, with an online softmax over tiles of 64 slots, pieces of 512.
//
// A tile of keys and values is read once for all queries of the item; each query's arithmetic is
// the same as alone. What several blocks find in the same pages is computed first, for all of them
// together; each block goes on from there. Where there are few items (decode), threads share the
// pieces of an item, and the one that computes the last of them merges all in order: the same
// operations again.
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
  bool splits_items(const Plan& plan) const;
  uint64_t readers_floats(const Plan& plan) const;
  Sums sums_of_reader(const Worker& worker, uint32_t reader, uint32_t kv_head) const;

  void compute_shared(Worker& worker) const;
  void compute_items(Worker& worker) const;
  void compute_split_items(Worker& worker) const;
  Sums compute_piece(Worker& worker, Item& item, uint32_t block, uint32_t index,
                     const Sums& sums) const;
  Item with_sums(const AttentionScores::Item& scores) const;
  void clear(const Sums& sums, uint32_t queries) const;
  void merge(const Sums& total, const Sums& piece, uint32_t queries) const;
  void compute(Item& item, uint32_t first, uint32_t end, const Sums& sums) const;
  void tile(Item& item, uint32_t first, const KvTile& next, const Sums& sums) const;
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

// Threads share the pieces of items where whole ones would leave some without work.
bool SpanAttentionOp::splits_items(const Plan& plan) const {
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks().size());
  if (threads_ == 1 || uint64_t{blocks} * shape_.kv_heads >= 4 * uint64_t{threads_}) return false;
  for (uint32_t b = 0; b < blocks; ++b) {
    if (plan.pieces(b).empty()) return false;
  }
  return plan.pieces_before(blocks) > blocks;
}

uint64_t SpanAttentionOp::shared_floats(const Plan& plan) const {
  const uint64_t pieces = plan.pieces_before(static_cast<uint32_t>(plan.blocks().size()));
  return readers_floats(plan) + (splits_items(plan) ? pieces * shape_.kv_heads * sums_floats() : 0);
}

// The scratch begins with sums of the readers of shared pieces: of each KV head those of each
// reader, then all states. So those of a block's rows are neighbours.
uint64_t SpanAttentionOp::readers_floats(const Plan& plan) const {
  const uint64_t queries = uint64_t{plan.readers().size()} * shape_.heads;
  const uint64_t floats = queries * (padded_ + sizeof(SoftmaxState) / sizeof(float));
  return (floats + kLanes - 1) / kLanes * kLanes;
}

SpanAttentionOp::Sums SpanAttentionOp::sums_of_reader(const Worker& worker, uint32_t reader,
                                                      uint32_t kv_head) const {
  const size_t readers = worker.plan.readers().size();
  const size_t query = (kv_head * readers + reader) * group_;
  float* states = worker.shared + readers * shape_.heads * padded_;
  return {reinterpret_cast<SoftmaxState*>(states) + query, worker.shared + query * padded_};
}

SpanAttentionOp::Item SpanAttentionOp::with_sums(const AttentionScores::Item& scores) const {
  Item item = {scores};
  item.rescale = item.scores + size_t{scores_.max_queries()} * kTileSlots;
  item.piece = sums_at(aligned(item.rescale + scores_.max_queries()));
  return item;
}

void SpanAttentionOp::run(Worker& worker) const {
  if (!worker.plan.shared_pieces().empty()) compute_shared(worker);
  splits_items(worker.plan) ? compute_split_items(worker) : compute_items(worker);
}

// The parts of a piece and KV head follow each other, so that a thread finds what it reads in its
// cache for all but the first of them.
void SpanAttentionOp::compute_shared(Worker& worker) const {
  const Plan& plan = worker.plan;
  const std::vector<SharedPiece>& pieces = plan.shared_pieces();
  const uint32_t parts = pieces.back().first_part + pieces.back().parts;
  worker.team.parallel(parts * shape_.kv_heads, [&](uint32_t i) {
    const SharedPiece& piece =
        *(std::ranges::upper_bound(pieces, i / shape_.kv_heads, {}, &SharedPiece::first_part) - 1);
    const uint32_t left = i - piece.first_part * shape_.kv_heads;
    const uint32_t kv_head = left / piece.parts, part = left % piece.parts;
    const uint32_t first = piece.begin(part), rows = piece.begin(part + 1) - first;
    const Sums sums = sums_of_reader(worker, first, kv_head);
    clear(sums, rows * group_);
    Item item = with_sums(
        scores_.item(plan, std::span(plan.readers()).subspan(first, rows), kv_head, worker.local));
    compute(item, piece.first, piece.end, sums);
  });
}

void SpanAttentionOp::compute_items(Worker& worker) const {
  const Plan& plan = worker.plan;
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks().size());
  worker.team.parallel(blocks * shape_.kv_heads, [&](uint32_t i) {
    // The last rows of a prompt see most; they go first, so that no thread ends with one alone.
    const uint32_t block = blocks - 1 - i / shape_.kv_heads;
    Item item =
        with_sums(scores_.item(plan, plan.blocks()[block], i % shape_.kv_heads, worker.local));
    const uint32_t queries = item.rows * group_;
    const Sums total = sums_at(item.piece.sum + sums_floats());
    clear(total, queries);
    for (uint32_t p = 0; p < plan.pieces(block).size(); ++p) {
      merge(total, compute_piece(worker, item, block, p, item.piece), queries);
    }
    finish(item, total);
  });
}

void SpanAttentionOp::compute_split_items(Worker& worker) const {
  const Plan& plan = worker.plan;
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks().size());
  float* shared = worker.shared + readers_floats(plan);
  worker.team.parallel(plan.pieces_before(blocks) * shape_.kv_heads, [&](uint32_t i) {
    const uint32_t index = i / shape_.kv_heads, kv_head = i % shape_.kv_heads;
    uint32_t block = 0;
    while (plan.pieces_before(block + 1) <= index) ++block;
    const uint32_t first = plan.pieces_before(block);
    const uint32_t pieces = static_cast<uint32_t>(plan.pieces(block).size());
    const auto sums_of = [&](uint32_t piece) {
      if (const PieceShare share = plan.share(block, piece)) {
        return sums_of_reader(worker, share.first_reader, kv_head);
      }
      return sums_at(shared + (size_t{first + piece} * shape_.kv_heads + kv_head) * sums_floats());
    };
    Item item = with_sums(scores_.item(plan, plan.blocks()[block], kv_head, worker.local));
    compute_piece(worker, item, block, index - first, sums_of(index - first));
    std::atomic<uint32_t>& done = plan.pieces_done(block, kv_head);
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < pieces) return;
    done.store(0, std::memory_order_relaxed);
    const uint32_t queries = item.rows * group_;
    clear(item.piece, queries);
    for (uint32_t p = 0; p < pieces; ++p) merge(item.piece, sums_of(p), queries);
    finish(item, item.piece);
  });
}

// Computes what of a block's piece is not yet; returns where its sums are: those of the readers, or
// `sums`.
SpanAttentionOp::Sums SpanAttentionOp::compute_piece(Worker& worker, Item& item, uint32_t block,
                                                     uint32_t index, const Sums& sums) const {
  const Plan& plan = worker.plan;
  const Step& step = plan.step();
  const AttentionPiece& piece = plan.pieces(block)[index];
  const uint32_t sequence = step.sequence_of[plan.blocks()[block].first];
  const uint32_t span = step.sequences[sequence].first_span + piece.span;
  const uint32_t end = std::min(step.spans[span].slots, piece.first + Plan::kPieceSlots);
  scores_.look(item, span);
  if (const PieceShare share = plan.share(block, index)) {
    const Sums begun = sums_of_reader(worker, share.first_reader, item.kv_head);
    compute(item, share.end, end, begun);
    return begun;
  }
  clear(sums, item.rows * group_);
  compute(item, piece.first, end, sums);
  return sums;
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

// Takes slots first .. end - 1 of the rows' spans, whole tiles, into their sums.
void SpanAttentionOp::compute(Item& item, uint32_t first, uint32_t end, const Sums& sums) const {
  const SpanEntry& span = scores_.span_of(item, 0);
  const KvPlanes& planes = scores_.planes();
  for (; first < end; first += kTileSlots) {
    if (!scores_.see(item, first)) continue;
    scores_.turn(item);
    KvTile next = {};
    if (first + kTileSlots < end && planes.direct()) {
      const uint32_t count = std::min(kTileSlots, span.slots - first - kTileSlots);
      next = planes.tile(item.plan, span, first + kTileSlots, count, item.kv_head, false, nullptr);
    }
    tile(item, first, next, sums);
  }
}

// `next`: the keys of the next tile.
void SpanAttentionOp::tile(Item& item, uint32_t first, const KvTile& next, const Sums& sums) const {
  // Runs of rows that see something of this tile; the others keep their state.
  for (uint32_t begin = 0, end; begin < item.rows; begin = end) {
    end = begin + 1;
    if (item.visible[begin] == 0) continue;
    uint64_t wanted = item.visible[begin];
    while (end < item.rows && item.visible[end] != 0) wanted |= item.visible[end++];
    const uint32_t count = static_cast<uint32_t>(std::bit_width(wanted));
    const uint32_t slots = (count + kLanes - 1) / kLanes * kLanes;
    const uint32_t query = begin * group_, queries = (end - begin) * group_;
    const KvPlanes& planes = scores_.planes();
    const SpanEntry& span = scores_.span_of(item, query);
    const bool direct = planes.direct();  // otherwise keys and values take turns in the scratch
    const auto read_values = [&] {
      return planes.tile(item.plan, span, first, count, item.kv_head, true, item.tile);
    };
    KvTile values = direct ? read_values() : KvTile{};
    scores_.score(item, first, count, values, query, queries);
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
  for (uint32_t r = 0; r < item.rows; ++r) {
    const uint32_t row = item.readers[r].row;
    float* out = out_.row(row) + size_t{item.kv_head} * group_ * shape_.head_dim;
    for (uint32_t g = 0; g < group_; ++g, out += shape_.head_dim) {
      const size_t query = size_t{r} * group_ + g;
      const float* sum = total.sum + query * padded_;
      const SoftmaxState& state = total.states[query];
      // The largest weight is 1, so the sum is 0 only where no slot was visible.
      const float inverse = state.sum == 0 ? 0.0f : 1.0f / state.sum;
      for (uint32_t d = 0; d < shape_.head_dim; ++d) out[d] = sum[d] * inverse;
      if (log_sum_.data) {
        log_sum_.row(row)[item.kv_head * group_ + g] =
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
