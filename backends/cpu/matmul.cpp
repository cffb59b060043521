#include "backends/cpu/matmul.hpp"

#include <algorithm>
#include <cstring>

namespace tessera::cpu {
namespace {

constexpr uint32_t kItemsPerThread = 4;           // enough to even out what else the machine does
constexpr uint32_t kMaxItem = 32;                 // outputs
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
  per_item_ = round_up(std::clamp<uint64_t>(wanted, 1, kMaxItem), kTileOutputs);
  const size_t fitting = kTileBytes / (size_t{depth_} * sizeof(float));
  tile_ = static_cast<uint32_t>(std::clamp<size_t>(fitting, kTileOutputs, kMaxItem)) /
          kTileOutputs * kTileOutputs;
}

uint32_t Linear::count(uint32_t item) const {
  return std::min(per_item_, outputs_ - first(item));
}

void Linear::load(uint32_t first, uint32_t count, float* tile) const {
  const uint32_t columns = weight_->desc().columns;
  for (uint32_t i = 0; i < count; ++i, tile += depth_) {
    weight_->dequantise_row(*kernels_, first + i, tile);
    std::memset(tile + columns, 0, (depth_ - columns) * sizeof(float));
  }
  const uint32_t padding = round_up(count, kTileOutputs) - count;
  std::memset(tile, 0, size_t{padding} * depth_ * sizeof(float));
}

void Linear::multiply(const float* tile, uint32_t count, const float* x, size_t x_stride,
                      uint32_t rows, const float* add, size_t add_stride, float* out,
                      size_t out_stride) const {
  kernels_->multiply({x, x_stride, rows, tile, count, depth_, add, add_stride, out, out_stride});
}

void Linear::compute(uint32_t item, const Matrix& x, uint32_t rows, const Matrix* add,
                     const Matrix& out, float* tile) const {
  const uint32_t end = first(item) + count(item);
  const uint32_t step = this->tile(rows);
  for (uint32_t i = first(item); i < end; i += step) {
    const uint32_t n = std::min(step, end - i);
    load(i, n, tile);
    multiply(tile, n, x.data, x.stride, rows, add ? add->data + i : nullptr, add ? add->stride : 0,
             out.data + i, out.stride);
  }
}

}  // namespace tessera::cpu
