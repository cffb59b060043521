// Sixteen outputs in one 512-bit register; VPDPBUSD and VPDPWSSD.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

struct Codes {
  __m512i v;
};
struct Ints {
  __m512i v;
};
struct Floats {
  __m512 v;
};

// Activation rows that the registers hold the sums of.
constexpr uint32_t kRows = 8;
// Whether `dot_wide` takes 128 away from its codes; otherwise the sum begins with that.
constexpr bool kWideIsSigned = false;

TESSERA_INLINE Codes load_codes(const uint8_t* from) {
  return {_mm512_loadu_si512(from)};
}

TESSERA_INLINE Codes low_nibbles(Codes x) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))};
}
TESSERA_INLINE Codes high_nibbles(Codes x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}

// Adds 16 where the bit is set.
TESSERA_INLINE Codes add_fifth_bits(Codes x, const uint8_t* bits) {
  __mmask64 mask;
  __builtin_memcpy(&mask, bits, sizeof(mask));
  return {_mm512_mask_add_epi8(x.v, mask, x.v, _mm512_set1_epi8(16))};
}

// Adds bits 2 * field, 2 * field + 1 of `pairs` as bits 4, 5.
template <int field>
TESSERA_INLINE Codes add_pairs(Codes x, Codes pairs) {
  const __m512i mask = _mm512_set1_epi8(0x30);
  const __m512i moved = field < 2 ? _mm512_slli_epi16(pairs.v, 4 - 2 * field)
                                  : _mm512_srli_epi16(pairs.v, 2 * field - 4);
  return {_mm512_or_si512(x.v, _mm512_and_si512(moved, mask))};
}

// sum + <w, a> over the four elements of each output; w below 128.
TESSERA_INLINE Ints dot(Ints sum, Codes w, const int8_t* a) {
  int32_t quad;
  __builtin_memcpy(&quad, a, sizeof(quad));
  return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_set1_epi32(quad))};
}

// The same for w of 0 .. 255 (kWideIsSigned).
TESSERA_INLINE Ints dot_wide(Ints sum, Codes w, const int8_t* a) {
  return dot(sum, w, a);
}

// Two int16 weights of each output.
using Pairs = Codes;
TESSERA_INLINE Pairs load_pairs(const uint8_t* from) {
  return load_codes(from);
}
// sum + <w, a> over two int16 elements of each output.
TESSERA_INLINE Ints dot_pairs(Ints sum, Pairs w, const int16_t* a) {
  int32_t pair;
  __builtin_memcpy(&pair, a, sizeof(pair));
  return {_mm512_dpwssd_epi32(sum.v, w.v, _mm512_set1_epi32(pair))};
}

TESSERA_INLINE Ints splat_int(int32_t x) {
  return {_mm512_set1_epi32(x)};
}
TESSERA_INLINE Ints twice(Ints x) {
  return {_mm512_add_epi32(x.v, x.v)};
}
TESSERA_INLINE Floats to_floats(Ints x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
TESSERA_INLINE Floats load_halves(const uint8_t* from) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
}
TESSERA_INLINE Floats zero() {
  return {_mm512_setzero_ps()};
}
TESSERA_INLINE Floats multiply(Floats a, Floats b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
// a * b + c
TESSERA_INLINE Floats fma(Floats a, float b, Floats c) {
  return {_mm512_fmadd_ps(a.v, _mm512_set1_ps(b), c.v)};
}
TESSERA_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
TESSERA_INLINE Floats add(Floats a, Floats b) {
  return {_mm512_add_ps(a.v, b.v)};
}
TESSERA_INLINE Floats load_floats(const float* from) {
  return {_mm512_loadu_ps(from)};
}
TESSERA_INLINE void store_floats(float* to, Floats x) {
  _mm512_storeu_ps(to, x.v);
}

}  // namespace tessera::cpu::TESSERA_ISA
