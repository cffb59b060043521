// Activation rows made ready for the linear layers of an op: normed, quantised, or both. For a few
// rows each thread makes its own copy, otherwise the team shares one.
#pragma once

#include <vector>

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/values.hpp"

namespace tessera::cpu {

class Compiler;
class Linear;
struct Worker;

// What a Linear reads: fp32 rows, or int8 rows for packed weights.
struct PreparedRows {
  Matrix x;
  QuantisedRows q;
};

// Scratch for the quantised form of some rows, taken from memory of floats.
class QuantisedBuffer {
 public:
  QuantisedBuffer(uint32_t rows, uint32_t width) : rows_(rows), width_(width) {}
  size_t floats() const;
  // The arrays in `memory`.
  QuantisedRows place(float* memory) const;
  // Writes row r of arrays that `place` gave.
  static void write(const Kernels& kernels, const float* x, uint32_t width,
                    const QuantisedRows& rows, uint32_t r);

 private:
  uint32_t rows_;
  uint32_t width_;
};

class RowPreparation {
 public:
  // Norms where `norm` is not empty; quantises where one of the linears is packed.
  RowPreparation(const Matrix& in, std::vector<float> norm, float epsilon,
                 std::initializer_list<const Linear*> linears, const Compiler& compiler);

  // Where the copies lie at the start of the scratch.
  size_t shared_floats() const { return floats(max_rows_); }
  size_t local_floats() const;

  // The rows of the step. Every thread of the team calls it.
  PreparedRows compute(Worker& worker) const;

 private:
  size_t floats(uint32_t rows) const;

  const Kernels& kernels_;
  Matrix in_;
  std::vector<float> norm_;
  float epsilon_;
  bool quantised_ = false;
  uint32_t max_rows_;
};

}  // namespace tessera::cpu
