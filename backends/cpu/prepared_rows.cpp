#include "backends/cpu/prepared_rows.hpp"

#include <algorithm>

#include "backends/cpu/op.hpp"
#include "backends/cpu/packing.hpp"

namespace tessera::cpu {
namespace {

size_t round_up(size_t value) {
  return (value + kLanes - 1) / kLanes * kLanes;
}

// Takes arrays, one after the other and aligned like the first, from memory of floats; without
// memory it only counts.
class Arrays {
 public:
  explicit Arrays(float* memory) : memory_(memory) {}

  float* take(size_t floats) {
    float* array = memory_ ? memory_ + taken_ : nullptr;
    taken_ += round_up(floats);
    return array;
  }
  size_t taken() const { return taken_; }

 private:
  float* memory_;
  size_t taken_ = 0;
};

QuantisedRows int8_rows(Arrays& arrays, size_t rows, uint32_t width) {
  const size_t blocks = width / kBlock;
  QuantisedRows out;
  out.q = reinterpret_cast<const int8_t*>(arrays.take(rows * width / 4));
  out.q_stride = width;
  out.scale = arrays.take(rows * blocks);
  out.block_stride = blocks;
  out.sum = arrays.take(rows * blocks);
  out.count = reinterpret_cast<const int32_t*>(arrays.take(2 * rows * blocks));
  return out;
}

QuantisedRows int16_rows(Arrays& arrays, size_t rows, uint32_t width) {
  const size_t blocks = width / kBlock;
  QuantisedRows out;
  out.q = reinterpret_cast<const int8_t*>(arrays.take(rows * width / 2));
  out.q_stride = size_t{width} * 2;
  out.scale = arrays.take(rows * blocks);
  out.block_stride = blocks;
  return out;
}

bool contains(std::initializer_list<RowForm> forms, RowForm form) {
  return std::ranges::find(forms, form) != forms.end();
}

}  // namespace

QuantisedRows PreparedRows::quantised(RowForm form, uint32_t first) const {
  QuantisedRows rows = form == RowForm::int8 ? int8 : int16;
  rows.q += first * rows.q_stride;
  rows.scale += first * rows.block_stride;
  if (form == RowForm::int8) {
    rows.sum += first * rows.block_stride;
    rows.count += first * 2 * rows.block_stride;
  }
  return rows;
}

RowQuantiser::RowQuantiser(const Kernels& kernels, std::initializer_list<RowForm> forms,
                           uint32_t width)
    : kernels_(kernels),
      int8_(contains(forms, RowForm::int8)),
      int16_(contains(forms, RowForm::int16)),
      width_(width) {}

size_t RowQuantiser::floats(uint32_t rows) const {
  Arrays arrays(nullptr);
  if (int8_) int8_rows(arrays, rows, width_);
  if (int16_) int16_rows(arrays, rows, width_);
  return arrays.taken();
}

void RowQuantiser::place(float* memory, uint32_t rows, PreparedRows& out) const {
  Arrays arrays(memory);
  if (int8_) out.int8 = int8_rows(arrays, rows, width_);
  if (int16_) out.int16 = int16_rows(arrays, rows, width_);
}

void RowQuantiser::write(const PreparedRows& rows, uint32_t r) const {
  const float* x = rows.x.row(r);
  if (int8_) {
    const QuantisedRows to = rows.quantised(RowForm::int8, r);
    kernels_.quantise_int8(x, width_, const_cast<int8_t*>(to.q), const_cast<float*>(to.scale),
                           const_cast<float*>(to.sum), const_cast<int32_t*>(to.count));
  }
  if (int16_) {
    const QuantisedRows to = rows.quantised(RowForm::int16, r);
    kernels_.quantise_int16(x, width_, reinterpret_cast<int16_t*>(const_cast<int8_t*>(to.q)),
                            const_cast<float*>(to.scale));
  }
}

RowPreparation::RowPreparation(const Matrix& in, std::vector<float> norm, float epsilon,
                               std::initializer_list<RowForm> forms, const Compiler& compiler)
    : kernels_(compiler.kernels),
      in_(in),
      norm_(std::move(norm)),
      epsilon_(epsilon),
      quantiser_(compiler.kernels, forms, in.width),
      max_rows_(compiler.options.max_rows) {}

size_t RowPreparation::floats(uint32_t rows) const {
  return (norm_.empty() ? 0 : rows * in_.stride) + quantiser_.floats(rows);
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
  quantiser_.place(memory, rows, out);
  if (norm_.empty() && quantiser_.empty()) return out;
  const auto one = [&](uint32_t r) {
    if (!norm_.empty()) {
      kernels_.rms_norm(in_.row(r), norm_.data(), epsilon_, in_.width, out.x.row(r));
    }
    quantiser_.write(out, r);
  };
  if (own) {
    for (uint32_t r = 0; r < rows; ++r) one(r);
  } else {
    worker.team.parallel(rows, one);
  }
  return out;
}

}  // namespace tessera::cpu
