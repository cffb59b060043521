// out = residual + in W^T.
#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

class LinearResidualOp final : public CompiledOp {
 public:
  LinearResidualOp(const LinearResidual& op, Compiler& c)
      : in_(c.values[op.in]),
        residual_(c.values[op.residual]),
        out_(c.values[op.out]),
        linear_(c.weight(op.w, "w", out_.width, in_.width), c.kernels, c.options.threads),
        rows_(in_, {}, 0, {linear_.form()}, c) {
    c.check_width(op.residual, "residual", out_.width);
    if (op.in == op.out) c.fail_at("out", "is the same value as `in`");
    c.need_shared(rows_.shared_floats());
    c.need_local(rows_.local_floats() + linear_.tile_floats());
  }

  void run(Worker& worker) const override {
    const PreparedRows x = rows_.compute(worker);
    worker.team.parallel(linear_.items(), [&](uint32_t item) {
      linear_.compute(item, x, worker.plan.rows(), &residual_, out_,
                      worker.local + rows_.local_floats());
    });
  }

 private:
  Matrix in_, residual_, out_;
  Linear linear_;
  RowPreparation rows_;
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const LinearResidual& op, Compiler& c) {
  return std::make_unique<LinearResidualOp>(op, c);
}

}  // namespace tessera::cpu
