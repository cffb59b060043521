// x = rms_norm(in) * norm; out = silu(x Wgate^T) * (x Wup^T).
#include <algorithm>

#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

// Rows whose gate and up outputs of one tile stay in L1 until they are multiplied.
constexpr uint32_t kRowBlock = 32;

class NormGatedFfnOp final : public CompiledOp {
 public:
  NormGatedFfnOp(const NormGatedFfn& op, Compiler& c)
      : kernels_(c.kernels),
        in_(c.values[op.in]),
        out_(c.values[op.out]),
        normed_(in_, c.vector(op.norm, "norm", in_.width), op.epsilon, c),
        gate_(c.weight(op.gate, "gate", out_.width, in_.width), c.kernels, c.options.threads),
        up_(c.weight(op.up, "up", out_.width, in_.width), c.kernels, c.options.threads) {
    c.check_positive(op.epsilon, "epsilon");
    if (op.activation != Activation::silu) c.fail_at("activation", "is unknown");
    if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
    c.need_shared(normed_.shared_floats());
    c.need_local(normed_.local_floats() + 2 * gate_.tile_floats() +
                 2 * size_t{kRowBlock} * gate_.tile(c.options.max_rows));
  }

  void run(Worker& worker) const override {
    const Matrix x = normed_.compute(worker);
    const uint32_t rows = worker.plan.rows();
    const uint32_t step = gate_.tile(rows);
    float* gate_tile = worker.local + normed_.local_floats();
    float* up_tile = gate_tile + gate_.tile_floats();
    float* gate = up_tile + up_.tile_floats();  // [kRowBlock][step]
    float* up = gate + size_t{kRowBlock} * step;
    worker.team.parallel(gate_.items(), [&](uint32_t item) {
      const uint32_t end = gate_.first(item) + gate_.count(item);
      for (uint32_t i = gate_.first(item); i < end; i += step) {
        const uint32_t n = std::min(step, end - i);
        gate_.load(i, n, gate_tile);
        up_.load(i, n, up_tile);
        for (uint32_t r = 0; r < rows; r += kRowBlock) {
          const uint32_t count = std::min(kRowBlock, rows - r);
          gate_.multiply(gate_tile, n, x.row(r), x.stride, count, nullptr, 0, gate, n);
          up_.multiply(up_tile, n, x.row(r), x.stride, count, nullptr, 0, up, n);
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
  NormedRows normed_;
  Linear gate_, up_;
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const NormGatedFfn& op, Compiler& c) {
  return std::make_unique<NormGatedFfnOp>(op, c);
}

}  // namespace tessera::cpu
