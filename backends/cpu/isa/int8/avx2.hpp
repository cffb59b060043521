// Sixteen outputs in two 256-bit registers. Without VPDPBUSD a dot product of bytes goes through
// sums of two products in 16 bits, which hold them: 127 * 127 * 2 < 2^15, and for wide weights the
// product is |w - 128| * (sign(w - 128) a), at most 128 * 127 * 2 < 2^15.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

struct Codes {
  __m256i v[2];
};
struct Ints {
  __m256i v[2];
};
struct Floats {
  __m256 v[2];
};

constexpr uint32_t kRows = 2;

TESSERA_INLINE Codes load_codes(const uint8_t* from) {
  const auto* at = reinterpret_cast<const __m256i*>(from);
  return {{_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)}};
}

TESSERA_INLINE Codes low_nibbles(Codes x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(x.v[0], mask), _mm256_and_si256(x.v[1], mask)}};
}
TESSERA_INLINE Codes high_nibbles(Codes x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(_mm256_srli_epi16(x.v[0], 4), mask),
           _mm256_and_si256(_mm256_srli_epi16(x.v[1], 4), mask)}};
}

// 16 in the bytes whose bit is set.
TESSERA_INLINE __m256i spread_bits(uint32_t bits) {
  const __m256i bytes =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits)),
                          _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                           2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
  const __m256i which = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, which), which);
  return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

TESSERA_INLINE Codes add_fifth_bits(Codes x, const uint8_t* bits) {
  uint32_t half[2];
  __builtin_memcpy(half, bits, sizeof(half));
  return {{_mm256_or_si256(x.v[0], spread_bits(half[0])),
           _mm256_or_si256(x.v[1], spread_bits(half[1]))}};
}

template <int field>
TESSERA_INLINE Codes add_pairs(Codes x, Codes pairs) {
  const __m256i mask = _mm256_set1_epi8(0x30);
  Codes out;
  for (int h = 0; h < 2; ++h) {
    const __m256i moved = field < 2 ? _mm256_slli_epi16(pairs.v[h], 4 - 2 * field)
                                    : _mm256_srli_epi16(pairs.v[h], 2 * field - 4);
    out.v[h] = _mm256_or_si256(x.v[h], _mm256_and_si256(moved, mask));
  }
  return out;
}

// Four int8 or two int16 in every 32 bits.
TESSERA_INLINE __m256i splat_quad(const void* a) {
  int32_t quad;
  __builtin_memcpy(&quad, a, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

#ifdef __AVXVNNI__

constexpr bool kWideIsSigned = false;

TESSERA_INLINE Ints dot(Ints sum, Codes w, const int8_t* a) {
  const __m256i quad = splat_quad(a);
  return {{_mm256_dpbusd_avx_epi32(sum.v[0], w.v[0], quad),
           _mm256_dpbusd_avx_epi32(sum.v[1], w.v[1], quad)}};
}
TESSERA_INLINE Ints dot_wide(Ints sum, Codes w, const int8_t* a) {
  return dot(sum, w, a);
}

TESSERA_INLINE __m256i dot_pairs_half(__m256i sum, __m256i w, __m256i a) {
  return _mm256_dpwssd_avx_epi32(sum, w, a);
}

#else

constexpr bool kWideIsSigned = true;

TESSERA_INLINE __m256i dot_half(__m256i sum, __m256i w, __m256i a) {
  const __m256i pairs = _mm256_maddubs_epi16(w, a);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

TESSERA_INLINE Ints dot(Ints sum, Codes w, const int8_t* a) {
  const __m256i quad = splat_quad(a);
  return {{dot_half(sum.v[0], w.v[0], quad), dot_half(sum.v[1], w.v[1], quad)}};
}

TESSERA_INLINE Ints dot_wide(Ints sum, Codes w, const int8_t* a) {
  const __m256i quad = splat_quad(a);
  Ints out;
  for (int h = 0; h < 2; ++h) {
    const __m256i s = _mm256_xor_si256(w.v[h], _mm256_set1_epi8(-128));
    out.v[h] = dot_half(sum.v[h], _mm256_abs_epi8(s), _mm256_sign_epi8(quad, s));
  }
  return out;
}

TESSERA_INLINE __m256i dot_pairs_half(__m256i sum, __m256i w, __m256i a) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(w, a));
}

#endif

// Two int16 weights of each output.
using Pairs = Codes;
TESSERA_INLINE Pairs load_pairs(const uint8_t* from) {
  return load_codes(from);
}
TESSERA_INLINE Ints dot_pairs(Ints sum, Pairs w, const int16_t* a) {
  const __m256i pair = splat_quad(a);
  return {{dot_pairs_half(sum.v[0], w.v[0], pair), dot_pairs_half(sum.v[1], w.v[1], pair)}};
}

TESSERA_INLINE Ints splat_int(int32_t x) {
  return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}};
}
TESSERA_INLINE Ints twice(Ints x) {
  for (__m256i& v : x.v) v = _mm256_add_epi32(v, v);
  return x;
}
TESSERA_INLINE Floats to_floats(Ints x) {
  return {{_mm256_cvtepi32_ps(x.v[0]), _mm256_cvtepi32_ps(x.v[1])}};
}
TESSERA_INLINE Floats load_halves(const uint8_t* from) {
  const auto* at = reinterpret_cast<const __m128i*>(from);
  return {{_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))}};
}
TESSERA_INLINE Floats zero() {
  return {{_mm256_setzero_ps(), _mm256_setzero_ps()}};
}
TESSERA_INLINE Floats multiply(Floats a, Floats b) {
  return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}
TESSERA_INLINE Floats fma(Floats a, float b, Floats c) {
  const __m256 s = _mm256_set1_ps(b);
  return {{_mm256_fmadd_ps(a.v[0], s, c.v[0]), _mm256_fmadd_ps(a.v[1], s, c.v[1])}};
}
TESSERA_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}
TESSERA_INLINE Floats add(Floats a, Floats b) {
  return {{_mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1])}};
}
TESSERA_INLINE Floats load_floats(const float* from) {
  return {{_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}};
}
TESSERA_INLINE void store_floats(float* to, Floats x) {
  _mm256_storeu_ps(to, x.v[0]);
  _mm256_storeu_ps(to + 8, x.v[1]);
}

}  // namespace tessera::cpu::TESSERA_ISA
