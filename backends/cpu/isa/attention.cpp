// The parts of span attention: scores and weighted values of one tile of 64 slots.
#include "backends/cpu/isa/tables.hpp"
#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

// Q rows x V registers of columns, one accumulator each.
template <uint32_t Q, uint32_t V>
TESSERA_INLINE void block(const WeighArgs& args, uint32_t row, uint32_t column) {
  const float* a = args.a + row * args.a_stride;
  const float* b = args.b + column;
  Vec acc[Q][V] = {};
  for (uint32_t k = 0; k < args.depth; ++k) {
    Vec bk[V];
#pragma GCC unroll 4
    for (uint32_t v = 0; v < V; ++v) bk[v] = load(b + k * args.b_stride + v * kVec);
#pragma GCC unroll 4
    for (uint32_t q = 0; q < Q; ++q) {
      const Vec aq = splat(a[q * args.a_stride + k]);
#pragma GCC unroll 4
      for (uint32_t v = 0; v < V; ++v) acc[q][v] += aq * bk[v];
    }
  }
  for (uint32_t q = 0; q < Q; ++q) {
    for (uint32_t v = 0; v < V; ++v) {
      store(args.c + (row + q) * args.c_stride + column + v * kVec, acc[q][v]);
    }
  }
}

template <uint32_t Q>
TESSERA_INLINE void rows(const WeighArgs& args, uint32_t row) {
  // 64 columns a block where registers are wide, otherwise two registers, which divide kLanes.
  constexpr uint32_t kWide = kVec == 16 ? 4 : 2;
  uint32_t column = 0;
  for (; column + kWide * kVec <= args.columns; column += kWide * kVec) {
    block<Q, kWide>(args, row, column);
  }
  for (; column < args.columns; column += kVec) block<Q, 1>(args, row, column);
}

}  // namespace

void weigh(const WeighArgs& args) {
  uint32_t row = 0;
  for (; row + 4 <= args.rows; row += 4) rows<4>(args, row);
  switch (args.rows - row) {
    case 3:
      return rows<3>(args, row);
    case 2:
      return rows<2>(args, row);
    case 1:
      return rows<1>(args, row);
  }
}

void transpose(const float* tile, size_t stride, uint32_t slots, uint32_t dims, float* out) {
  for (uint32_t s = 0; s < slots; s += 4) {
    for (uint32_t d = 0; d < dims; d += 4) {
      const float* in = tile + s * stride + d;
      const Vec4 a = load<Vec4>(in), b = load<Vec4>(in + stride);
      const Vec4 c = load<Vec4>(in + 2 * stride), e = load<Vec4>(in + 3 * stride);
      const Vec4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const Vec4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Vec4 ce_low = __builtin_shufflevector(c, e, 0, 4, 1, 5);
      const Vec4 ce_high = __builtin_shufflevector(c, e, 2, 6, 3, 7);
      float* to = out + size_t{d} * kTileSlots + s;
      store(to, __builtin_shufflevector(ab_low, ce_low, 0, 1, 4, 5));
      store(to + kTileSlots, __builtin_shufflevector(ab_low, ce_low, 2, 3, 6, 7));
      store(to + 2 * kTileSlots, __builtin_shufflevector(ab_high, ce_high, 0, 1, 4, 5));
      store(to + 3 * kTileSlots, __builtin_shufflevector(ab_high, ce_high, 2, 3, 6, 7));
    }
  }
}

float softmax_tile(float* scores, uint32_t slots, uint64_t visible, SoftmaxState& state) {
  const float kHidden = -__builtin_inff();
  if (visible != ~uint64_t{0}) {
    for (uint32_t i = 0; i < slots; ++i) scores[i] = visible >> i & 1 ? scores[i] : kHidden;
  }
  Vec largest = splat(kHidden);
  for (uint32_t i = 0; i < slots; i += kVec) largest = max(largest, load(scores + i));
  float new_max = state.max;
  for (uint32_t i = 0; i < kVec; ++i) new_max = largest[i] > new_max ? largest[i] : new_max;

  const Vec shift = splat(new_max);
  Lanes total = {};
  for (uint32_t i = 0; i < slots; i += kLanes) {
    for (uint32_t part = 0; part < kParts; ++part) {
      float* s = scores + i + part * kVec;
      const Vec weight = exp(load(s) - shift);
      store(s, weight);
      total.part[part] += weight;
    }
  }
  const float scale = state.max == kHidden ? 0.0f : __builtin_expf(state.max - new_max);
  state.sum = state.sum * scale + sum(total);
  state.max = new_max;
  return scale;
}

void merge(float* sum, const float* part, float scale, uint32_t count) {
  const Vec s = splat(scale);
  for (uint32_t i = 0; i < count; i += kVec) store(sum + i, load(sum + i) * s + load(part + i));
}

}  // namespace tessera::cpu::TESSERA_ISA
