// Sixteen outputs in four 128-bit registers; SDOT where the processor has it, otherwise products of
// bytes in 16 bits, summed in pairs. Weights below 128 are the same signed or not; wide ones become
// signed by their top bit, which takes away 128. Pairs of int16 are multiplied by SMLAL.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

struct Codes {
  uint8x16_t v[4];
};
struct Ints {
  int32x4_t v[4];
};
struct Floats {
  float32x4_t v[4];
};

// Four registers a row for sums of integers, four for sums of floats.
constexpr uint32_t kRows = 2;
constexpr bool kWideIsSigned = true;

TESSERA_INLINE Codes load_codes(const uint8_t* from) {
  Codes x;
  for (int i = 0; i < 4; ++i) x.v[i] = vld1q_u8(from + 16 * i);
  return x;
}

TESSERA_INLINE Codes low_nibbles(Codes x) {
  for (uint8x16_t& v : x.v) v = vandq_u8(v, vdupq_n_u8(15));
  return x;
}
TESSERA_INLINE Codes high_nibbles(Codes x) {
  for (uint8x16_t& v : x.v) v = vshrq_n_u8(v, 4);
  return x;
}

// Adds 16 where the bit is set.
TESSERA_INLINE Codes add_fifth_bits(Codes x, const uint8_t* bits) {
  const uint8_t masks[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t which = vld1q_u8(masks);
  for (int i = 0; i < 4; ++i) {
    const uint8x16_t two = vcombine_u8(vdup_n_u8(bits[2 * i]), vdup_n_u8(bits[2 * i + 1]));
    x.v[i] = vorrq_u8(x.v[i], vandq_u8(vtstq_u8(two, which), vdupq_n_u8(16)));
  }
  return x;
}

// Adds bits 2 * field, 2 * field + 1 of `pairs` as bits 4, 5.
template <int field>
TESSERA_INLINE Codes add_pairs(Codes x, Codes pairs) {
  for (int i = 0; i < 4; ++i) {
    uint8x16_t moved = pairs.v[i];
    if constexpr (field < 2) moved = vshlq_n_u8(moved, 4 - 2 * field);
    if constexpr (field > 2) moved = vshrq_n_u8(moved, 2 * field - 4);
    x.v[i] = vorrq_u8(x.v[i], vandq_u8(moved, vdupq_n_u8(0x30)));
  }
  return x;
}

// sum + <w, quad> over the four elements of each of four outputs.
TESSERA_INLINE int32x4_t dot_four(int32x4_t sum, int8x16_t w, int8x16_t quad) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_s32(sum, w, quad);
#else
  // Products in 16 bits, pairs of them in 32: lanes 2i and 2i + 1 belong to output i.
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(quad)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(w, quad));
  return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}

TESSERA_INLINE int8x16_t splat_quad(const int8_t* a) {
  int32_t quad;
  __builtin_memcpy(&quad, a, sizeof(quad));
  return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

TESSERA_INLINE Ints dot(Ints sum, Codes w, const int8_t* a) {
  const int8x16_t quad = splat_quad(a);
  for (int i = 0; i < 4; ++i) {
    sum.v[i] = dot_four(sum.v[i], vreinterpretq_s8_u8(w.v[i]), quad);
  }
  return sum;
}

// The same for w of 0 .. 255 (kWideIsSigned).
TESSERA_INLINE Ints dot_wide(Ints sum, Codes w, const int8_t* a) {
  for (uint8x16_t& v : w.v) v = veorq_u8(v, vdupq_n_u8(0x80));
  return dot(sum, w, a);
}

// Two int16 weights of each output, first elements and second ones apart.
struct Pairs {
  int16x8_t first[2];
  int16x8_t second[2];
};
TESSERA_INLINE Pairs load_pairs(const uint8_t* from) {
  Pairs x;
  for (int i = 0; i < 2; ++i) {
    const int16x8_t a = vreinterpretq_s16_u8(vld1q_u8(from + 32 * i));
    const int16x8_t b = vreinterpretq_s16_u8(vld1q_u8(from + 32 * i + 16));
    x.first[i] = vuzp1q_s16(a, b);
    x.second[i] = vuzp2q_s16(a, b);
  }
  return x;
}
TESSERA_INLINE Ints dot_pairs(Ints sum, Pairs w, const int16_t* a) {
  int32_t bits;
  __builtin_memcpy(&bits, a, sizeof(bits));
  const int16x4_t pair = vreinterpret_s16_s32(vdup_n_s32(bits));
  for (int i = 0; i < 2; ++i) {
    int32x4_t& low = sum.v[2 * i];
    int32x4_t& high = sum.v[2 * i + 1];
    low = vmlal_lane_s16(low, vget_low_s16(w.first[i]), pair, 0);
    high = vmlal_high_lane_s16(high, w.first[i], pair, 0);
    low = vmlal_lane_s16(low, vget_low_s16(w.second[i]), pair, 1);
    high = vmlal_high_lane_s16(high, w.second[i], pair, 1);
  }
  return sum;
}

TESSERA_INLINE Ints splat_int(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {{v, v, v, v}};
}
TESSERA_INLINE Ints twice(Ints x) {
  for (int32x4_t& v : x.v) v = vaddq_s32(v, v);
  return x;
}
TESSERA_INLINE Floats to_floats(Ints x) {
  Floats out;
  for (int i = 0; i < 4; ++i) out.v[i] = vcvtq_f32_s32(x.v[i]);
  return out;
}
TESSERA_INLINE Floats load_halves(const uint8_t* from) {
  Floats out;
  for (int i = 0; i < 4; ++i) {
    out.v[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from + 8 * i)));
  }
  return out;
}
TESSERA_INLINE Floats zero() {
  const float32x4_t v = vdupq_n_f32(0);
  return {{v, v, v, v}};
}
TESSERA_INLINE Floats multiply(Floats a, Floats b) {
  for (int i = 0; i < 4; ++i) a.v[i] = vmulq_f32(a.v[i], b.v[i]);
  return a;
}
// a * b + c
TESSERA_INLINE Floats fma(Floats a, float b, Floats c) {
  for (int i = 0; i < 4; ++i) c.v[i] = vfmaq_n_f32(c.v[i], a.v[i], b);
  return c;
}
TESSERA_INLINE Floats fma(Floats a, Floats b, Floats c) {
  for (int i = 0; i < 4; ++i) c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
  return c;
}
TESSERA_INLINE Floats add(Floats a, Floats b) {
  for (int i = 0; i < 4; ++i) a.v[i] = vaddq_f32(a.v[i], b.v[i]);
  return a;
}
TESSERA_INLINE Floats load_floats(const float* from) {
  Floats x;
  for (int i = 0; i < 4; ++i) x.v[i] = vld1q_f32(from + 4 * i);
  return x;
}
TESSERA_INLINE void store_floats(float* to, Floats x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, x.v[i]);
}

}  // namespace tessera::cpu::TESSERA_ISA
