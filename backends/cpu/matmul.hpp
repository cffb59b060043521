// One weight matrix times the rows of a step.
#pragma once

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/values.hpp"
#include "backends/cpu/weight.hpp"

namespace tessera::cpu {

// [outputs][depth] weights. Outputs are cut into items, which threads take as they come; within an
// item, tiles of weight rows are dequantised to fp32 once and used for all activation rows.
class Linear {
 public:
  Linear(const CpuWeight& weight, const Kernels& kernels, uint32_t threads);

  uint32_t items() const { return (outputs_ + per_item_ - 1) / per_item_; }
  uint32_t outputs() const { return outputs_; }
  // First output of an item and number of its outputs.
  uint32_t first(uint32_t item) const { return item * per_item_; }
  uint32_t count(uint32_t item) const;

  // Weight rows that are dequantised at a time when `rows` activation rows use them: as much as L1
  // or L2 holds. A multiple of kTileOutputs.
  uint32_t tile(uint32_t rows) const { return rows <= kFewRows ? kTileOutputs : tile_; }
  // Floats of a tile.
  size_t tile_floats() const { return size_t{tile_} * depth_; }

  // Dequantises outputs first .. first + count (at most a tile) to `tile`.
  void load(uint32_t first, uint32_t count, float* tile) const;
  // out[r][i] = (add ? add[r][i] : 0) + <x[r], row i of the tile>; add and out point at the
  // tile's first output.
  void multiply(const float* tile, uint32_t count, const float* x, size_t x_stride, uint32_t rows,
                const float* add, size_t add_stride, float* out, size_t out_stride) const;

  // All outputs of an item, for all rows; `tile` is tile_floats() of scratch, x has padded rows.
  void compute(uint32_t item, const Matrix& x, uint32_t rows, const Matrix* add, const Matrix& out,
               float* tile) const;

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
