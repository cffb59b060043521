// out[r] = table[token[r]] * scale.
#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

class EmbedOp final : public CompiledOp {
 public:
  EmbedOp(const Embed& op, Compiler& c)
      : kernels_(c.kernels),
        table_(c.weight(op.table, "table", c.graph.vocabulary, c.graph.widths[op.out])),
        scale_(op.scale),
        out_(c.values[op.out]) {}

  void run(Worker& worker) const override {
    worker.team.parallel(worker.plan.rows(), [&](uint32_t r) {
      float* out = out_.row(r);
      table_.dequantise_row(kernels_, static_cast<uint32_t>(worker.plan.step().tokens[r]), out);
      for (uint32_t i = 0; i < out_.width; ++i) out[i] *= scale_;
    });
  }

 private:
  const Kernels& kernels_;
  const CpuWeight& table_;
  float scale_;
  Matrix out_;
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const Embed& op, Compiler& c) {
  return std::make_unique<EmbedOp>(op, c);
}

}  // namespace tessera::cpu
