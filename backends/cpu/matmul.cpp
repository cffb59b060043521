#include "backends/cpu/matmul.hpp"

#include <algorithm>
#include <cstring>

#include "backends/cpu/packing.hpp"

namespace tessera::cpu {
namespace {

constexpr uint32_t kItemsPerThread = 4;           // enough to even out what else the machine does
constexpr size_t kTileBytes = size_t{192} << 10;  // leaves room for activations in an L2 of 256 KiB

uint32_t round_up(uint64_t value, uint32_t unit) {
  return static_cast<uint32_t>((value + unit - 1) / unit * unit);
}

}  // namespace

Linear::Linear(const CpuWeight& weight, const Kernels& kernels, uint32_t threads)
    : weight_(&weight),
      kernels_(&kernels),
      outputs_(weight.desc().rows),
      depth_(round_up(weight.desc().columns, kLanes)) {
  const uint64_t wanted = uint64_t{outputs_} / (uint64_t{threads} * kItemsPerThread);
  if (packed()) {
    per_item_ = round_up(std::clamp<uint64_t>(wanted, 1, kMaxTile), kGroupOutputs);
    tile_ = kGroupOutputs;
    return;
  }
  per_item_ = round_up(std::clamp<uint64_t>(wanted, 1, kMaxTile), kTileOutputs);
  const size_t fitting = kTileBytes / (size_t{depth_} * sizeof(float));
  tile_ = static_cast<uint32_t>(std::clamp<size_t>(fitting, kTileOutputs, kMaxTile)) /
          kTileOutputs * kTileOutputs;
}

uint32_t Linear::count(uint32_t item) const {
  return std::min(per_item_, outputs_ - first(item));
}

void Linear::load(uint32_t first, uint32_t count, float* tile) const {
  if (packed()) return;
  const uint32_t columns = weight_->desc().columns;
  for (uint32_t i = 0; i < count; ++i, tile += depth_) {
    weight_->dequantise_row(*kernels_, first + i, tile);
    std::memset(tile + columns, 0, (depth_ - columns) * sizeof(float));
  }
  const uint32_t padding = round_up(count, kTileOutputs) - count;
  std::memset(tile, 0, size_t{padding} * depth_ * sizeof(float));
}

void Linear::multiply(const float* tile, uint32_t first, uint32_t count, const PreparedRows& x,
                      uint32_t row, uint32_t rows, const float* add, size_t add_stride, float* out,
                      size_t out_stride) const {
  if (!packed()) {
    kernels_->multiply(
        {x.x.row(row), x.x.stride, rows, tile, count, depth_, add, add_stride, out, out_stride});
    return;
  }
  const QuantisedRows q = x.quantised(form()).from(row);
  const auto product = kernels_->packed.multiply[static_cast<size_t>(*weight_->packing())];
  for (uint32_t i = 0; i < count; i += kGroupOutputs) {
    product({weight_->group((first + i) / kGroupOutputs), std::min(kGroupOutputs, count - i), q,
             rows, add ? add + i : nullptr, add_stride, out + i, out_stride});
  }
}

void Linear::compute(uint32_t item, const PreparedRows& x, uint32_t rows, const Matrix* add,
                     const Matrix& out, float* tile) const {
  const uint32_t end = first(item) + count(item);
  const uint32_t step = this->tile(rows);
  for (uint32_t i = first(item); i < end; i += step) {
    const uint32_t n = std::min(step, end - i);
    load(i, n, tile);
    multiply(tile, i, n, x, 0, rows, add ? add->data + i : nullptr, add ? add->stride : 0,
             out.data + i, out.stride);
  }
}

}  // namespace tessera::cpu
