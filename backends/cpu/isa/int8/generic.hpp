// Sixteen outputs in plain arrays, which compilers turn into what vectors the target has.
#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <cstdint>

#include "backends/cpu/isa/half.hpp"
#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

struct Codes {
  uint8_t v[64];
};
struct Ints {
  int32_t v[16];
};
struct Floats {
  float v[16];
};

constexpr uint32_t kRows = 1;
constexpr bool kWideIsSigned = false;

TESSERA_INLINE Codes load_codes(const uint8_t* from) {
  Codes x;
  __builtin_memcpy(x.v, from, sizeof(x.v));
  return x;
}
TESSERA_INLINE Codes low_nibbles(Codes x) {
  for (uint8_t& b : x.v) b &= 15;
  return x;
}
TESSERA_INLINE Codes high_nibbles(Codes x) {
  for (uint8_t& b : x.v) b >>= 4;
  return x;
}
TESSERA_INLINE Codes add_fifth_bits(Codes x, const uint8_t* bits) {
  for (int i = 0; i < 64; ++i) x.v[i] |= static_cast<uint8_t>((bits[i / 8] >> (i % 8) & 1) << 4);
  return x;
}
template <int field>
TESSERA_INLINE Codes add_pairs(Codes x, Codes pairs) {
  for (int i = 0; i < 64; ++i) {
    x.v[i] |= static_cast<uint8_t>((pairs.v[i] >> (2 * field) & 3) << 4);
  }
  return x;
}
TESSERA_INLINE Ints dot(Ints sum, Codes w, const int8_t* a) {
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 4; ++k) sum.v[i] += w.v[4 * i + k] * a[k];
  }
  return sum;
}
TESSERA_INLINE Ints dot_wide(Ints sum, Codes w, const int8_t* a) {
  return dot(sum, w, a);
}

// Two int16 weights of each output.
using Pairs = Codes;
TESSERA_INLINE Pairs load_pairs(const uint8_t* from) {
  return load_codes(from);
}
TESSERA_INLINE Ints dot_pairs(Ints sum, Pairs w, const int16_t* a) {
#ifdef __SSE2__  // compilers do not find PMADDWD in the loop below
  int32_t pair;
  __builtin_memcpy(&pair, a, sizeof(pair));
  for (int i = 0; i < 4; ++i) {
    __m128i v, s;
    __builtin_memcpy(&v, w.v + 16 * i, sizeof(v));
    __builtin_memcpy(&s, sum.v + 4 * i, sizeof(s));
    s = _mm_add_epi32(s, _mm_madd_epi16(v, _mm_set1_epi32(pair)));
    __builtin_memcpy(sum.v + 4 * i, &s, sizeof(s));
  }
#else
  int16_t weights[32], pair[2];
  __builtin_memcpy(weights, w.v, sizeof(weights));
  __builtin_memcpy(pair, a, sizeof(pair));
  for (int i = 0; i < 16; ++i) {
    sum.v[i] += weights[2 * i] * pair[0] + weights[2 * i + 1] * pair[1];
  }
#endif
  return sum;
}

TESSERA_INLINE Ints splat_int(int32_t x) {
  Ints out;
  for (int32_t& i : out.v) i = x;
  return out;
}
TESSERA_INLINE Ints twice(Ints x) {
  for (int32_t& i : x.v) i *= 2;
  return x;
}
TESSERA_INLINE Floats to_floats(Ints x) {
  Floats out;
  for (int i = 0; i < 16; ++i) out.v[i] = static_cast<float>(x.v[i]);
  return out;
}
TESSERA_INLINE Floats load_halves(const uint8_t* from) {
  Floats out;
  for (int i = 0; i < 16; ++i) {
    uint16_t bits;
    __builtin_memcpy(&bits, from + 2 * i, sizeof(bits));
    out.v[i] = half_to_float(bits);
  }
  return out;
}
TESSERA_INLINE Floats zero() {
  return {};
}
TESSERA_INLINE Floats multiply(Floats a, Floats b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
TESSERA_INLINE Floats fma(Floats a, float b, Floats c) {
  for (int i = 0; i < 16; ++i) c.v[i] = a.v[i] * b + c.v[i];
  return c;
}
TESSERA_INLINE Floats fma(Floats a, Floats b, Floats c) {
  for (int i = 0; i < 16; ++i) c.v[i] = a.v[i] * b.v[i] + c.v[i];
  return c;
}
TESSERA_INLINE Floats add(Floats a, Floats b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
TESSERA_INLINE Floats load_floats(const float* from) {
  Floats x;
  __builtin_memcpy(x.v, from, sizeof(x.v));
  return x;
}
TESSERA_INLINE void store_floats(float* to, Floats x) {
  __builtin_memcpy(to, x.v, sizeof(x.v));
}

}  // namespace tessera::cpu::TESSERA_ISA
