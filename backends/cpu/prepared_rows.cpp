#include "backends/cpu/prepared_rows.hpp"

#include <algorithm>

#include "backends/cpu/op.hpp"
#include "backends/cpu/packing.hpp"

namespace tessera::cpu {
namespace {

size_t round_up(size_t value) {
  return (value + kLanes - 1) / kLanes * kLanes;
}

}  // namespace

size_t QuantisedBuffer::floats() const {
  const size_t blocks = width_ / kBlock;
  return round_up(size_t{rows_} * width_ / 4) + 4 * round_up(rows_ * blocks);
}

QuantisedRows QuantisedBuffer::place(float* memory) const {
  const size_t blocks = width_ / kBlock;
  QuantisedRows rows;
  rows.q = reinterpret_cast<const int8_t*>(memory);
  rows.q_stride = width_;
  rows.block_stride = blocks;
  memory += round_up(size_t{rows_} * width_ / 4);
  rows.scale = memory;
  rows.sum = memory + round_up(rows_ * blocks);
  rows.count = reinterpret_cast<const int32_t*>(memory + 2 * round_up(rows_ * blocks));
  return rows;
}

void QuantisedBuffer::write(const Kernels& kernels, const float* x, uint32_t width,
                            const QuantisedRows& rows, uint32_t r) {
  kernels.quantise(x, width, const_cast<int8_t*>(rows.q) + r * rows.q_stride,
                   const_cast<float*>(rows.scale) + r * rows.block_stride,
                   const_cast<float*>(rows.sum) + r * rows.block_stride,
                   const_cast<int32_t*>(rows.count) + r * 2 * rows.block_stride);
}

RowPreparation::RowPreparation(const Matrix& in, std::vector<float> norm, float epsilon,
                               std::initializer_list<const Linear*> linears,
                               const Compiler& compiler)
    : kernels_(compiler.kernels),
      in_(in),
      norm_(std::move(norm)),
      epsilon_(epsilon),
      quantised_(std::ranges::any_of(linears, [](const Linear* l) { return l->packed(); })),
      max_rows_(compiler.options.max_rows) {}

size_t RowPreparation::floats(uint32_t rows) const {
  return (norm_.empty() ? 0 : rows * in_.stride) +
         (quantised_ ? QuantisedBuffer(rows, in_.width).floats() : 0);
}

size_t RowPreparation::local_floats() const {
  return floats(Linear::kFewRows);
}

PreparedRows RowPreparation::compute(Worker& worker) const {
  const uint32_t rows = worker.plan.rows();
  const bool own = rows <= Linear::kFewRows;
  float* memory = own ? worker.local : worker.shared;
  PreparedRows out;
  out.x = in_;
  if (!norm_.empty()) {
    out.x.data = memory;
    memory += rows * in_.stride;
  }
  if (quantised_) out.q = QuantisedBuffer(rows, in_.width).place(memory);
  if (norm_.empty() && !quantised_) return out;
  const auto one = [&](uint32_t r) {
    if (!norm_.empty()) {
      kernels_.rms_norm(in_.row(r), norm_.data(), epsilon_, in_.width, out.x.row(r));
    }
    if (quantised_) QuantisedBuffer::write(kernels_, out.x.row(r), in_.width, out.q, r);
  };
  if (own) {
    for (uint32_t r = 0; r < rows; ++r) one(r);
  } else {
    worker.team.parallel(rows, one);
  }
  return out;
}

}  // namespace tessera::cpu
