// Packed weights (packing.hpp) times int8 or int16 activations. TESSERA_INT8_HEADER names the file
// with the vectors of sixteen outputs.
//
// A tile is one group of 16 outputs times kRows activation rows. For each block of 32 elements:
// integer dot products in 8 quads or 16 pairs, exact; one conversion, then
//   sum += (integer * weight scale) * activation scale  (+ minimum * activation sum)
// so an output is reduced over K block by block in order, whatever the number of rows.
#include "backends/cpu/packing.hpp"

#include TESSERA_INT8_HEADER

namespace tessera::cpu::TESSERA_ISA {
namespace {

constexpr int32_t zero_point(Packing p) {
  switch (p) {
    case Packing::u4z:
      return 8;
    case Packing::u5z:
      return 16;
    case Packing::u6z:
      return 32;
    case Packing::u8z:
      return kWideZero;
    default:
      return 0;
  }
}
constexpr bool has_minimum(Packing p) {
  return p == Packing::u4m || p == Packing::u5m;
}
constexpr bool is_int8(Packing p) {
  return row_form(p) == RowForm::int8;
}
constexpr uint32_t scales_at(Packing p) {
  return packed_block_bytes(p) - (has_minimum(p) || p == Packing::u6z ? 64 : 32);
}

// Quads j and j + 4 (for u8z: 2j and 2j + 1) of a block.
template <Packing p, int j>
TESSERA_INLINE void load_quads(const uint8_t* block, Codes& a, Codes& b) {
  if constexpr (p == Packing::u8z) {
    a = load_codes(block + 128 * j);
    b = load_codes(block + 128 * j + 64);
    return;
  }
  const Codes x = load_codes(block + 64 * j);
  a = low_nibbles(x);
  b = high_nibbles(x);
  if constexpr (p == Packing::u5z || p == Packing::u5m) {
    a = add_fifth_bits(a, block + 256 + 8 * j);
    b = add_fifth_bits(b, block + 256 + 8 * (j + 4));
  } else if constexpr (p == Packing::u6z) {
    a = add_pairs<j>(a, load_codes(block + 256));
    b = add_pairs<j>(b, load_codes(block + 320));
  }
}

template <Packing p, int j, uint32_t R>
TESSERA_INLINE void multiply_quads(const uint8_t* block, const int8_t* const (&q)[R],
                                   Ints (&low)[R], Ints (&high)[R]) {
  Codes a, b;
  load_quads<p, j>(block, a, b);
  constexpr int first = p == Packing::u8z ? 2 * j : j;
  constexpr int second = p == Packing::u8z ? 2 * j + 1 : j + 4;
#pragma GCC unroll 8
  for (uint32_t r = 0; r < R; ++r) {
    if constexpr (p == Packing::u8z) {
      low[r] = dot_wide(low[r], a, q[r] + 4 * first);
      low[r] = dot_wide(low[r], b, q[r] + 4 * second);
    } else {
      low[r] = dot(low[r], a, q[r] + 4 * first);
      Ints& behind = p == Packing::u6z ? high[r] : low[r];
      behind = dot(behind, b, q[r] + 4 * second);
    }
  }
}

template <uint32_t R>
TESSERA_INLINE void multiply_pairs(const uint8_t* block, const int8_t* const (&q)[R],
                                   Ints (&sum)[R]) {
#pragma GCC unroll 16
  for (uint32_t j = 0; j < kBlock / 2; ++j) {
    const Pairs w = load_pairs(block + 64 * j);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < R; ++r) sum[r] = dot_pairs(sum[r], w, q[r] + 4 * j);
  }
}

template <Packing p>
TESSERA_INLINE Floats load_scales(const uint8_t* block) {
  if constexpr (p == Packing::s14) {
    return load_floats(reinterpret_cast<const float*>(block + 1024));
  } else {
    return load_halves(block + scales_at(p));
  }
}

template <Packing p, uint32_t R>
TESSERA_INLINE void tile(const PackedArgs& args, uint32_t row) {
  const int8_t* q[R];
  const float* scale[R];
  const float* sum[R];
  const int32_t* count[R];
  Floats out[R];
#pragma GCC unroll 8
  for (uint32_t r = 0; r < R; ++r) {
    q[r] = args.x.q + (row + r) * args.x.q_stride;
    scale[r] = args.x.scale + (row + r) * args.x.block_stride;
    if constexpr (is_int8(p)) {
      sum[r] = args.x.sum + (row + r) * args.x.block_stride;
      count[r] = args.x.count + (row + r) * 2 * args.x.block_stride;
    }
    out[r] = zero();
  }
  const uint8_t* block = args.group;
  for (uint32_t b = 0; b < args.blocks; ++b, block += packed_block_bytes(p)) {
    Ints low[R], high[R];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < R; ++r) {
      if constexpr (p == Packing::u6z) {
        low[r] = minus_32_times(splat_int(count[r][2 * b]));
        high[r] = minus_32_times(splat_int(count[r][2 * b + 1]));
      } else if constexpr (zero_point(p) != 0) {
        low[r] = splat_int(-zero_point(p) * (count[r][2 * b] + count[r][2 * b + 1]));
      } else {
        low[r] = splat_int(0);
      }
    }
    if constexpr (is_int8(p)) {
      multiply_quads<p, 0>(block, q, low, high);
      multiply_quads<p, 1>(block, q, low, high);
      multiply_quads<p, 2>(block, q, low, high);
      multiply_quads<p, 3>(block, q, low, high);
    } else {
      multiply_pairs(block, q, low);
    }
    const Floats w = load_scales<p>(block);
    Floats second = zero();
    if constexpr (has_minimum(p) || p == Packing::u6z) {
      second = load_halves(block + scales_at(p) + 32);
    }
#pragma GCC unroll 8
    for (uint32_t r = 0; r < R; ++r) {
      Floats part = multiply(to_floats(low[r]), w);
      if constexpr (p == Packing::u6z) {
        part = fma(to_floats(high[r]), second, part);
      }
      out[r] = fma(part, scale[r][b], out[r]);
      if constexpr (has_minimum(p)) out[r] = fma(second, sum[r][b], out[r]);
      q[r] += is_int8(p) ? kBlock : 2 * kBlock;
    }
  }
#pragma GCC unroll 8
  for (uint32_t r = 0; r < R; ++r) {
    float* to = args.out + (row + r) * args.out_stride;
    const float* from = args.add ? args.add + (row + r) * args.add_stride : nullptr;
    if (args.outputs == kGroupOutputs) {
      store_floats(to, from ? add(out[r], load_floats(from)) : out[r]);
    } else {
      float lanes[kGroupOutputs];
      store_floats(lanes, out[r]);
      for (uint32_t i = 0; i < args.outputs; ++i) to[i] = from ? lanes[i] + from[i] : lanes[i];
    }
  }
}

template <Packing p>
void multiply_packed(const PackedArgs& args) {
  uint32_t row = 0;
  for (; row + kRows <= args.rows; row += kRows) tile<p, kRows>(args, row);
  if constexpr (kRows > 4) {
    for (; row + 4 <= args.rows; row += 4) tile<p, 4>(args, row);
  }
  if constexpr (kRows > 2) {
    for (; row + 2 <= args.rows; row += 2) tile<p, 2>(args, row);
  }
  if constexpr (kRows > 1) {
    for (; row < args.rows; ++row) tile<p, 1>(args, row);
  }
}

}  // namespace

extern const PackedKernels kPacked;
const PackedKernels kPacked = {{
    multiply_packed<Packing::u4z>,
    multiply_packed<Packing::u4m>,
    multiply_packed<Packing::u5z>,
    multiply_packed<Packing::u5m>,
    multiply_packed<Packing::u6z>,
    multiply_packed<Packing::u8z>,
    multiply_packed<Packing::s14>,
}};

}  // namespace tessera::cpu::TESSERA_ISA
