// Activations times dequantised weights.
#include "backends/cpu/isa/tables.hpp"
#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

// Activation rows a register tile: with 4 weight rows this makes 16, 12 or 8 accumulators of the
// 32, 16 or 16 registers that AVX-512, AVX2 and the baseline have.
constexpr uint32_t kTileRows = kVec == 16 ? 4 : kVec == 8 ? 3 : 2;

// kTileOutputs x R outputs. The lanes are done one register's width after the other, so that the
// accumulators of a pass fit the register file; x and w of the tile stay in L1 between passes.
template <uint32_t R>
TESSERA_INLINE void tile(const MultiplyArgs& a, uint32_t row, uint32_t output) {
  const float* x = a.x + row * a.x_stride;
  const float* w = a.w + size_t{output} * a.depth;
  Lanes sums[R][kTileOutputs];
  for (uint32_t part = 0; part < kParts; ++part) {
    Vec acc[R][kTileOutputs] = {};
    for (uint32_t k = part * kVec; k < a.depth; k += kLanes) {
      Vec wk[kTileOutputs];
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kTileOutputs; ++i) wk[i] = load(w + size_t{i} * a.depth + k);
#pragma GCC unroll 4
      for (uint32_t r = 0; r < R; ++r) {
        const Vec xk = load(x + r * a.x_stride + k);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < kTileOutputs; ++i) acc[r][i] += wk[i] * xk;
      }
    }
    for (uint32_t r = 0; r < R; ++r) {
      for (uint32_t i = 0; i < kTileOutputs; ++i) sums[r][i].part[part] = acc[r][i];
    }
  }
  const uint32_t count = a.outputs - output < kTileOutputs ? a.outputs - output : kTileOutputs;
  for (uint32_t r = 0; r < R; ++r) {
    Vec4 s = sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
    float* out = a.out + (row + r) * a.out_stride + output;
    const float* add = a.add ? a.add + (row + r) * a.add_stride + output : nullptr;
    if (count == kTileOutputs) {
      store(out, add ? s + load<Vec4>(add) : s);
    } else {
      for (uint32_t i = 0; i < count; ++i) out[i] = add ? s[i] + add[i] : s[i];
    }
  }
}

}  // namespace

// Rows outside: the few activation rows of a tile stay in L1 while the weights, which the caller
// sizes for L2, stream by.
void multiply(const MultiplyArgs& a) {
  uint32_t row = 0;
  for (; row + kTileRows <= a.rows; row += kTileRows) {
    for (uint32_t i = 0; i < a.outputs; i += kTileOutputs) tile<kTileRows>(a, row, i);
  }
  for (; row < a.rows; ++row) {
    for (uint32_t i = 0; i < a.outputs; i += kTileOutputs) tile<1>(a, row, i);
  }
}

}  // namespace tessera::cpu::TESSERA_ISA
