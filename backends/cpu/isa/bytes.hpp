// Sixteen small integers to floats. AVX2 and AVX-512 have instructions for it that compilers do not
// find by themselves.
#pragma once

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

typedef uint8_t Bytes __attribute__((vector_size(16)));

TESSERA_INLINE Bytes load_bytes(const uint8_t* from) {
  Bytes b;
  __builtin_memcpy(&b, from, sizeof b);
  return b;
}

#if defined(__AVX512F__)

TESSERA_INLINE Lanes signed_to_floats(Bytes b) {
  return {{(Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)b))}};
}

TESSERA_INLINE Lanes to_floats(Bytes b) {
  return {{(Vec)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32((__m128i)b))}};
}

#elif defined(__AVX2__)

TESSERA_INLINE Lanes signed_to_floats(Bytes b) {
  const __m128i low = (__m128i)b;
  return {{(Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
           (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(low, 8)))}};
}

TESSERA_INLINE Lanes to_floats(Bytes b) {
  const __m128i low = (__m128i)b;
  return {{(Vec)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)),
           (Vec)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(low, 8)))}};
}

#else

// Zeros go between the bytes, then between the pairs of bytes (little endian).
TESSERA_INLINE Lanes to_floats(Bytes b) {
  typedef uint16_t Pairs __attribute__((vector_size(16)));
  const Bytes zero = {};
  const Pairs none = {};
  const Pairs low = (Pairs)__builtin_shufflevector(b, zero, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                                   21, 6, 22, 7, 23);
  const Pairs high = (Pairs)__builtin_shufflevector(b, zero, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                                    13, 29, 14, 30, 15, 31);
  const auto first = [&](Pairs p) {
    return __builtin_convertvector(
        (IntVec)__builtin_shufflevector(p, none, 0, 8, 1, 9, 2, 10, 3, 11), Vec);
  };
  const auto second = [&](Pairs p) {
    return __builtin_convertvector(
        (IntVec)__builtin_shufflevector(p, none, 4, 12, 5, 13, 6, 14, 7, 15), Vec);
  };
  return {{first(low), second(low), first(high), second(high)}};
}

TESSERA_INLINE Lanes signed_to_floats(Bytes b) {
  Lanes out = to_floats(b ^ 0x80);
  for (uint32_t p = 0; p < kParts; ++p) out.part[p] -= splat(128.0f);
  return out;
}

#endif

}  // namespace tessera::cpu::TESSERA_ISA
