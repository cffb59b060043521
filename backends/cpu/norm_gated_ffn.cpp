// x = rms_norm(in) * norm; out = silu(x Wgate^T) * (x Wup^T).
#include <algorithm>

#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

// Rows whose gate and up outputs of one tile stay in L1 until they are multiplied.
constexpr uint32_t kRowBlock = 4 * kPanelRows;

class NormGatedFfnOp final : public CompiledOp {
 public:
  NormGatedFfnOp(const NormGatedFfn& op, Compiler& c)
      : kernels_(c.kernels),
        in_(c.values[op.in]),
        out_(c.values[op.out]),
        gate_(c.weight(op.gate, "gate", out_.width, in_.width), c.kernels, c.options.threads),
        up_(c.weight(op.up, "up", out_.width, in_.width), c.kernels, c.options.threads),
        rows_(in_, c.vector(op.norm, "norm", in_.width), op.epsilon, {gate_.form(), up_.form()},
              c) {
    c.check_positive(op.epsilon, "epsilon");
    if (op.activation != Activation::silu) c.fail_at("activation", "is unknown");
    if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
    c.need_shared(rows_.shared_floats());
    c.need_local(rows_.local_floats() + gate_.tile_floats() + up_.tile_floats() +
                 2 * size_t{kRowBlock} * Linear::kMaxTile);
  }

  void run(Worker& worker) const override {
    const PreparedRows x = rows_.compute(worker);
    const uint32_t rows = worker.plan.rows();
    const Linear& items = gate_.packed() ? gate_ : up_;  // whole groups where one is packed
    const uint32_t step = items.tile(rows);
    float* gate_tile = worker.local + rows_.local_floats();
    float* up_tile = gate_tile + gate_.tile_floats();
    float* gate = up_tile + up_.tile_floats();  // [kRowBlock][step]
    float* up = gate + size_t{kRowBlock} * step;
    worker.team.parallel(items.items(), [&](uint32_t item) {
      const uint32_t end = items.first(item) + items.count(item);
      for (uint32_t i = items.first(item); i < end; i += step) {
        const uint32_t n = std::min(step, end - i);
        gate_.load(i, n, gate_tile);
        up_.load(i, n, up_tile);
        for (uint32_t r = 0; r < rows; r += kRowBlock) {
          const uint32_t count = std::min(kRowBlock, rows - r);
          gate_.multiply(gate_tile, i, n, x, r, count, nullptr, 0, gate, n);
          up_.multiply(up_tile, i, n, x, r, count, nullptr, 0, up, n);
          for (uint32_t k = 0; k < count; ++k) {
            kernels_.silu_multiply(gate + size_t{k} * n, up + size_t{k} * n, n,
                                   out_.row(r + k) + i);
          }
        }
      }
    });
  }

 private:
  const Kernels& kernels_;
  Matrix in_, out_;
  Linear gate_, up_;
  RowPreparation rows_;
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const NormGatedFfn& op, Compiler& c) {
  return std::make_unique<NormGatedFfnOp>(op, c);
}

}  // namespace tessera::cpu
