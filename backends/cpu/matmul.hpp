// One weight matrix times the rows of a step.
#pragma once

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/prepared_rows.hpp"
#include "backends/cpu/values.hpp"
#include "backends/cpu/weight.hpp"

namespace tessera::cpu {

// [outputs][depth] weights. Outputs are cut into items, which threads take as they come. Packed
// weights meet int8 or int16 activations group by group; others are dequantised to fp32 a tile at a
// time, each tile used for all activation rows.
class Linear {
 public:
  Linear(const CpuWeight& weight, const Kernels& kernels, uint32_t threads);

  uint32_t items() const { return (outputs_ + per_item_ - 1) / per_item_; }
  uint32_t outputs() const { return outputs_; }
  bool packed() const { return weight_->packing().has_value(); }
  // Of the rows that it is multiplied with.
  RowForm form() const { return packed() ? row_form(*weight_->packing()) : RowForm::fp32; }
  // First output of an item and number of its outputs.
  uint32_t first(uint32_t item) const { return item * per_item_; }
  uint32_t count(uint32_t item) const;

  // Outputs that are computed at a time. Packed: a multiple of a group. Otherwise the weight rows
  // that are dequantised together when `rows` activation rows use them, as much as L1 or L2 holds:
  // a multiple of kTileOutputs.
  uint32_t tile(uint32_t rows) const { return packed() || rows > kFewRows ? tile_ : kTileOutputs; }
  // Scratch for a tile.
  size_t tile_floats() const { return packed() ? 0 : size_t{kMaxTile} * depth_; }

  // Makes outputs first .. first + count (at most a tile) ready in `tile`.
  void load(uint32_t first, uint32_t count, float* tile) const;
  // out[r][i] = (add ? add[r][i] : 0) + <x[row + r], output first + i> for r < rows, i < count,
  // after `load` of the same outputs; add and out point at row `row` (a multiple of kPanelRows),
  // output `first`.
  void multiply(const float* tile, uint32_t first, uint32_t count, const PreparedRows& x,
                uint32_t row, uint32_t rows, const float* add, size_t add_stride, float* out,
                size_t out_stride) const;

  // All outputs of an item, for all rows; `tile` is tile_floats() of scratch.
  void compute(uint32_t item, const PreparedRows& x, uint32_t rows, const Matrix* add,
               const Matrix& out, float* tile) const;

  static constexpr uint32_t kMaxTile = 32;  // outputs

  // Up to this many rows each thread works on its own copies of small things rather than meeting
  // the others.
  static constexpr uint32_t kFewRows = 4;

 private:
  const CpuWeight* weight_;
  const Kernels* kernels_;
  uint32_t outputs_;
  uint32_t depth_;  // columns, padded to kLanes
  uint32_t per_item_;
  uint32_t tile_;
};

}  // namespace tessera::cpu
