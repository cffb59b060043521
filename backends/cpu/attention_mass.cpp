// How much rows attend to each slot: a second pass over the keys, after SpanAttention has found the
// softmax's denominators. Weights are rounded to integers (kMassUnits) before they are summed, so
// the sums have the same bits whatever the order, the threads or the slices of the rows.
#include <atomic>

#include "backends/cpu/attention_scores.hpp"

namespace tessera::cpu {
namespace {

class AttentionMassOp final : public CompiledOp {
 public:
  AttentionMassOp(const AttentionMass& op, Compiler& c)
      : kernels_(c.kernels),
        scores_(op.in, op.scale, op.shape, c),
        log_sum_(c.values[op.log_sum]),
        rows_(std::clamp(kMostQueries / scores_.group(), 1u, Plan::kMaxBlock)) {
    c.check_width(op.log_sum, "log_sum", op.shape.heads);
    if (scores_.group() > kMostQueries) {
      c.fail_at("shape", "has more than " + std::to_string(kMostQueries) + " heads a KV head");
    }
    c.need_local(scores_.item_floats());
  }

  bool idle(const Plan& plan) const override {
    return std::ranges::none_of(plan.step().mass_requests,
                                [&](const MassRequest& r) { return wants(r); });
  }

  // Threads share the pieces of the context: each KV head's.
  void run(Worker& worker) const override {
    const std::vector<MassRequest>& requests = worker.plan.step().mass_requests;
    const uint32_t kv_heads = scores_.shape().kv_heads;
    uint32_t items = 0;
    for (const MassRequest& r : requests) items += wants(r) ? pieces(worker.plan, r) * kv_heads : 0;
    worker.team.parallel(items, [&](uint32_t i) {
      size_t request = 0;
      while (!wants(requests[request]) || i >= pieces(worker.plan, requests[request]) * kv_heads) {
        if (wants(requests[request])) i -= pieces(worker.plan, requests[request]) * kv_heads;
        ++request;
      }
      add_piece(worker, requests[request], i / kv_heads, i % kv_heads,
                worker.result.masses[request]);
    });
  }

 private:
  // Weights of at most 1 that 32 bits can sum.
  static constexpr uint32_t kMostQueries = 256;

  bool wants(const MassRequest& r) const {
    return r.rows > 0 && scores_.shape().layer >= r.first_layer;
  }
  static uint32_t pieces(const Plan& plan, const MassRequest& r) {
    return static_cast<uint32_t>(plan.pieces_of(r.sequence).size());
  }

  void add_piece(Worker& worker, const MassRequest& request, uint32_t index, uint32_t kv_head,
                 std::vector<uint64_t>& mass) const {
    const Step& step = worker.plan.step();
    const AttentionPiece& piece = worker.plan.pieces_of(request.sequence)[index];
    const SequenceEntry& sequence = step.sequences[request.sequence];
    const uint32_t span = sequence.first_span + piece.span;
    uint64_t first_mass = piece.first;  // of the piece in the request's list
    for (uint32_t s = sequence.first_span; s < span; ++s) first_mass += step.spans[s].slots;
    const uint32_t end = std::min(step.spans[span].slots, piece.first + Plan::kPieceSlots);
    for (uint32_t r = 0; r < request.rows; r += rows_) {
      const RowBlock block = {request.first_row + r, std::min(rows_, request.rows - r)};
      AttentionScores::Item item = scores_.item(worker.plan, block, kv_head, worker.local);
      scores_.look(item, span);
      for (uint32_t first = piece.first; first < end; first += kTileSlots) {
        if (!scores_.see(item, first)) continue;
        scores_.turn(item);
        const uint32_t slots = std::min(kTileSlots, end - first);
        uint32_t sums[kTileSlots] = {};
        add_tile(item, first, slots, sums);
        for (uint32_t s = 0; s < slots; ++s) {
          if (sums[s] == 0) continue;
          std::atomic_ref<uint64_t>(mass[first_mass + first - piece.first + s])
              .fetch_add(sums[s], std::memory_order_relaxed);
        }
      }
    }
  }

  void add_tile(const AttentionScores::Item& item, uint32_t first, uint32_t slots,
                uint32_t* sums) const {
    const uint32_t group = scores_.group(), queries = item.rows * group;
    scores_.score(item, first, slots, {}, 0, queries);
    for (uint32_t q = 0; q < queries; ++q) {
      const uint64_t visible = item.visible[q / group];
      if (visible == 0) continue;
      const float log_sum =
          log_sum_.row(item.readers[q / group].row)[item.kv_head * group + q % group];
      kernels_.add_weights(item.scores + size_t{q} * kTileSlots,
                           (slots + kLanes - 1) / kLanes * kLanes, visible, log_sum, sums);
    }
  }

  const Kernels& kernels_;
  AttentionScores scores_;
  Matrix log_sum_;  // [rows][heads]
  uint32_t rows_;   // whose weights are summed in 32 bits
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const AttentionMass& op, Compiler& c) {
  return std::make_unique<AttentionMassOp>(op, c);
}

}  // namespace tessera::cpu
