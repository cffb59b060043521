// Packed weights (packing.hpp) times int8 or int16 activations. TESSERA_INT8_HEADER names the file
// with the vectors of sixteen outputs.
//
// A tile is one group of 16 outputs times kRows activation rows. For each block of 32 elements:
// integer dot products in 8 quads or 16 pairs, exact; one conversion, then
//   sum += (integer * weight scale) * activation scale  (+ minimum * activation sum)
// so an output is reduced over K block by block in order, whatever the number of rows.
#include <type_traits>
#include <utility>

#include "backends/cpu/kernels.hpp"

#include TESSERA_INT8_HEADER

namespace tessera::cpu::TESSERA_ISA {
namespace {

constexpr bool has_minimum(Packing p) {
  return p == Packing::u4m || p == Packing::u5m;
}
constexpr bool is_int8(Packing p) {
  return row_form(p) == RowForm::int8;
}
template <Packing p>
using RowBlock = std::conditional_t<is_int8(p), Int8Block, Int16Block>;
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
TESSERA_INLINE void multiply_quads(const uint8_t* block, const Int8Block* x, Ints (&low)[R],
                                   Ints (&high)[R]) {
  Codes a, b;
  load_quads<p, j>(block, a, b);
  constexpr int first = p == Packing::u8z ? 2 * j : j;
  constexpr int second = p == Packing::u8z ? 2 * j + 1 : j + 4;
#pragma GCC unroll 8
  for (uint32_t r = 0; r < R; ++r) {
    if constexpr (p == Packing::u8z) {
      low[r] = dot_wide(low[r], a, x[r].q + 4 * first);
      low[r] = dot_wide(low[r], b, x[r].q + 4 * second);
    } else {
      low[r] = dot(low[r], a, x[r].q + 4 * first);
      Ints& behind = p == Packing::u6z ? high[r] : low[r];
      behind = dot(behind, b, x[r].q + 4 * second);
    }
  }
}

template <uint32_t R>
TESSERA_INLINE void multiply_pairs(const uint8_t* block, const Int16Block* x, Ints (&sum)[R]) {
#pragma GCC unroll 16
  for (uint32_t j = 0; j < kBlock / 2; ++j) {
    const Pairs w = load_pairs(block + 64 * j);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < R; ++r) sum[r] = dot_pairs(sum[r], w, x[r].q + 2 * j);
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

// The lines of 64 bytes from `at` on.
template <size_t... i>
TESSERA_INLINE void prefetch(const uint8_t* at, std::index_sequence<i...>) {
  (__builtin_prefetch(at + 64 * i), ...);
}

// What the integer sums of a block begin with.
template <Packing p, uint32_t R>
TESSERA_INLINE void begin(const RowBlock<p>* x, Ints (&low)[R], Ints (&high)[R]) {
#pragma GCC unroll 8
  for (uint32_t r = 0; r < R; ++r) {
    if constexpr (p == Packing::u4z) {
      low[r] = splat_int(x[r].from8);
    } else if constexpr (p == Packing::u5z) {
      low[r] = twice(splat_int(x[r].from8));
    } else if constexpr (p == Packing::u6z) {
      low[r] = splat_int(x[r].from32[0]);
      high[r] = splat_int(x[r].from32[1]);
    } else if constexpr (p == Packing::u8z && !kWideIsSigned) {
      low[r] = splat_int(x[r].from128);
    } else {
      low[r] = splat_int(0);
    }
  }
}

// Rows row .. row + R, of one panel. The last tile of several fetches the group behind this one.
template <Packing p, uint32_t R>
TESSERA_INLINE void tile(const PackedArgs& args, uint32_t row) {
  const size_t ahead = size_t{args.x.blocks} * packed_block_bytes(p);
  const bool fetch = (row > 0 || R >= 4) && row + R >= args.rows;
  const size_t stride = R == kPanelRows ? R * sizeof(RowBlock<p>) : args.x.stride(row);
  const uint8_t* rows = args.x.at(row, 0);
  const uint8_t* block = args.group;
  Floats out[R];
  for (Floats& o : out) o = zero();
  for (uint32_t b = 0; b < args.x.blocks; ++b, block += packed_block_bytes(p), rows += stride) {
    const auto* x = reinterpret_cast<const RowBlock<p>*>(rows);
    Ints low[R], high[R];
    if (fetch) {
      prefetch(block + ahead, std::make_index_sequence<(packed_block_bytes(p) + 63) / 64>());
    }
    begin<p>(x, low, high);
    if constexpr (is_int8(p)) {
      multiply_quads<p, 0>(block, x, low, high);
      multiply_quads<p, 1>(block, x, low, high);
      multiply_quads<p, 2>(block, x, low, high);
      multiply_quads<p, 3>(block, x, low, high);
    } else {
      multiply_pairs(block, x, low);
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
      out[r] = fma(part, x[r].scale, out[r]);
      if constexpr (has_minimum(p)) out[r] = fma(second, x[r].sum, out[r]);
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
