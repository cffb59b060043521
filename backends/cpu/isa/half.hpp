// Half precision. Where the instruction set converts (F16C), its instructions do; elsewhere the bit
// patterns are moved by hand, which compilers turn into vector code.
#pragma once

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

constexpr float kHalfMax = 65504.0f;

#ifdef __F16C__

TESSERA_INLINE float half_to_float(uint16_t h) {
  return _cvtsh_ss(h);
}

TESSERA_INLINE uint16_t float_to_half(float x) {
  x = x > kHalfMax ? kHalfMax : x < -kHalfMax ? -kHalfMax : x;
  return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
}

// Eight values.
TESSERA_INLINE void halves_to_floats(const uint8_t* in, float* out) {
  __m128i h;
  __builtin_memcpy(&h, in, sizeof h);
  _mm256_storeu_ps(out, _mm256_cvtph_ps(h));
}

TESSERA_INLINE void floats_to_halves(const float* in, uint8_t* out) {
  const __m256 x = _mm256_loadu_ps(in);
  // The second operand comes back where x is NaN.
  const __m256 low = _mm256_max_ps(_mm256_set1_ps(-kHalfMax), x);
  const __m128i h =
      _mm256_cvtps_ph(_mm256_min_ps(_mm256_set1_ps(kHalfMax), low), _MM_FROUND_TO_NEAREST_INT);
  __builtin_memcpy(out, &h, sizeof h);
}

#if defined(__AVX512F__)
// Sixteen values.
TESSERA_INLINE Lanes halves_to_lanes(const uint8_t* in) {
  __m256i h;
  __builtin_memcpy(&h, in, sizeof h);
  return {{(Vec)_mm512_cvtph_ps(h)}};
}
#else
TESSERA_INLINE Lanes halves_to_lanes(const uint8_t* in) {
  __m128i h[2];
  __builtin_memcpy(h, in, sizeof h);
  return {{(Vec)_mm256_cvtph_ps(h[0]), (Vec)_mm256_cvtph_ps(h[1])}};
}
#endif

#else

// The 15 bits below the sign, moved to float's place, are the value times 2^-112, subnormal or not.
TESSERA_INLINE float half_to_float(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t scaled =
      __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude << 13) * 0x1p112f);
  const uint32_t special = magnitude << 13 | 0x7f800000u;  // infinity, NaN
  const uint32_t bits = magnitude >= 0x7c00u ? special : scaled;
  return __builtin_bit_cast(float, bits | (h & 0x8000u) << 16);
}

TESSERA_INLINE uint16_t float_to_half(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the result is a multiple of 2^-24, the unit of floats in [0.5, 1).
  const float small = __builtin_bit_cast(float, magnitude) + 0.5f;
  const uint32_t subnormal = __builtin_bit_cast(uint32_t, small) - 0x3f000000u;
  // Rebias the exponent and round the 13 bits that fall off to nearest even.
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  uint32_t h = magnitude < 0x38800000u ? subnormal : normal;
  h = magnitude >= 0x477fe000u ? 0x7bffu : h;
  h = magnitude > 0x7f800000u ? 0x7e00u : h;
  return static_cast<uint16_t>(h | sign);
}

TESSERA_INLINE void halves_to_floats(const uint8_t* in, float* out) {
  uint16_t h[8];
  __builtin_memcpy(h, in, sizeof h);
  for (uint32_t i = 0; i < 8; ++i) out[i] = half_to_float(h[i]);
}

TESSERA_INLINE void floats_to_halves(const float* in, uint8_t* out) {
  uint16_t h[8];
  for (uint32_t i = 0; i < 8; ++i) h[i] = float_to_half(in[i]);
  __builtin_memcpy(out, h, sizeof h);
}

TESSERA_INLINE Lanes halves_to_lanes(const uint8_t* in) {
  float f[kLanes];
  halves_to_floats(in, f);
  halves_to_floats(in + 16, f + 8);
  Lanes out;
  __builtin_memcpy(&out, f, sizeof out);
  return out;
}

#endif

TESSERA_INLINE float read_half(const uint8_t* in) {
  uint16_t h;
  __builtin_memcpy(&h, in, sizeof h);
  return half_to_float(h);
}

TESSERA_INLINE void write_half(uint8_t* out, float x) {
  const uint16_t h = float_to_half(x);
  __builtin_memcpy(out, &h, sizeof h);
}

}  // namespace tessera::cpu::TESSERA_ISA
