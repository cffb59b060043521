// Activation rows made ready for the linear layers of an op: normed, quantised, or both. For a few
// rows each thread makes its own copy, otherwise the team shares one.
#pragma once

#include <initializer_list>
#include <vector>

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/values.hpp"

namespace tessera::cpu {

class Compiler;
struct Worker;

// What a Linear reads: fp32 rows, and the forms that packed weights of the op ask for.
struct PreparedRows {
  Matrix x;
  QuantisedRows int8, int16;

  const QuantisedRows& quantised(RowForm form) const {
    return form == RowForm::int8 ? int8 : int16;
  }
};

// Quantises rows to the forms that some weights ask for, in memory of floats.
class RowQuantiser {
 public:
  // fp32 among the forms asks for nothing.
  RowQuantiser(const Kernels& kernels, std::initializer_list<RowForm> forms, uint32_t width);

  bool empty() const { return !int8_ && !int16_; }
  size_t floats(uint32_t rows) const;
  // Puts the arrays of `rows` rows into `memory`.
  void place(float* memory, uint32_t rows, PreparedRows& out) const;
  // Quantises row r of rows.x, after `place`.
  void write(const PreparedRows& rows, uint32_t r) const;

 private:
  const Kernels& kernels_;
  bool int8_;
  bool int16_;
  uint32_t width_;
};

class RowPreparation {
 public:
  // Norms where `norm` is not empty; quantises to the forms that the linears ask for.
  RowPreparation(const Matrix& in, std::vector<float> norm, float epsilon,
                 std::initializer_list<RowForm> forms, const Compiler& compiler);

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
  RowQuantiser quantiser_;
  uint32_t max_rows_;
};

}  // namespace tessera::cpu
