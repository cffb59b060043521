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

// `rows` rows of blocks, in the next of the arrays.
QuantisedRows rows_of(size_t block_bytes, uint32_t rows, uint32_t width, Arrays& arrays) {
  QuantisedRows out;
  out.rows = rows;
  out.blocks = width / kBlock;
  out.block_bytes = static_cast<uint32_t>(block_bytes);
  out.data = reinterpret_cast<uint8_t*>(arrays.take(out.bytes() / sizeof(float)));
  return out;
}

bool contains(std::initializer_list<RowForm> forms, RowForm form) {
  return std::ranges::find(forms, form) != forms.end();
}

}  // namespace

RowQuantiser::RowQuantiser(const Kernels& kernels, std::initializer_list<RowForm> forms,
                           uint32_t width)
    : kernels_(kernels),
      int8_(contains(forms, RowForm::int8)),
      int16_(contains(forms, RowForm::int16)),
      width_(width) {}

size_t RowQuantiser::floats(uint32_t rows) const {
  Arrays arrays(nullptr);
  if (int8_) rows_of(sizeof(Int8Block), rows, width_, arrays);
  if (int16_) rows_of(sizeof(Int16Block), rows, width_, arrays);
  return arrays.taken();
}

void RowQuantiser::place(float* memory, uint32_t rows, PreparedRows& out) const {
  Arrays arrays(memory);
  if (int8_) out.int8 = rows_of(sizeof(Int8Block), rows, width_, arrays);
  if (int16_) out.int16 = rows_of(sizeof(Int16Block), rows, width_, arrays);
}

void RowQuantiser::write(const PreparedRows& rows, uint32_t r) const {
  if (int8_) kernels_.quantise_int8(rows.x.row(r), rows.int8, r);
  if (int16_) kernels_.quantise_int16(rows.x.row(r), rows.int16, r);
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
