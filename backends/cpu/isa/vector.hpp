// Vectors of the instruction set a file is compiled for. Included by the sources in isa/ only.
//
// These sources are compiled several times into one library, so nothing in them may be shared
// between the copies: everything lives in the namespace TESSERA_ISA, and no function of the C++
// library that might be emitted out of line is used (the linker could keep the AVX-512 copy of it
// for everybody).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels.hpp"

#define TESSERA_INLINE static inline __attribute__((always_inline))

namespace tessera::cpu::TESSERA_ISA {

// One register: TESSERA_VECTOR_BYTES is 16, 32 or 64.
typedef float Vec __attribute__((vector_size(TESSERA_VECTOR_BYTES)));
typedef int32_t IntVec __attribute__((vector_size(TESSERA_VECTOR_BYTES)));
typedef float Vec4 __attribute__((vector_size(16)));
typedef int32_t IntVec4 __attribute__((vector_size(16)));

constexpr uint32_t kVec = TESSERA_VECTOR_BYTES / 4;  // floats a register
constexpr uint32_t kParts = kLanes / kVec;           // registers for kLanes floats

template <class V = Vec>
TESSERA_INLINE V load(const float* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}

template <class V>
TESSERA_INLINE void store(float* to, V v) {
  __builtin_memcpy(to, &v, sizeof(V));
}

TESSERA_INLINE Vec splat(float x) {
  return x - Vec{};
}

TESSERA_INLINE Vec max(Vec a, Vec b) {
  return a > b ? a : b;
}
TESSERA_INLINE Vec min(Vec a, Vec b) {
  return a < b ? a : b;
}

// kLanes floats.
struct Lanes {
  Vec part[kParts];
};

// Four floats of the sixteen in `part`, starting at 4 * i.
template <uint32_t i, class V>
TESSERA_INLINE Vec4 quarter(const V* part) {
  constexpr uint32_t kQuarters = sizeof(V) / sizeof(Vec4);  // a register
  const V v = part[i / kQuarters];
  if constexpr (kQuarters == 1) {
    return v;
  } else {
    constexpr int o = i % kQuarters * 4;
    return __builtin_shufflevector(v, v, o, o + 1, o + 2, o + 3);
  }
}

// Lanes folded to four: (i, i + 8), then (i, i + 4).
TESSERA_INLINE Vec4 fold(const Lanes& a) {
  return (quarter<0>(a.part) + quarter<2>(a.part)) + (quarter<1>(a.part) + quarter<3>(a.part));
}

// The sums of four sets of lanes, each by the tree (i, i + 8), (i, i + 4), (i, i + 2), (i, i + 1).
TESSERA_INLINE Vec4 sum4(const Lanes& a, const Lanes& b, const Lanes& c, const Lanes& d) {
  const Vec4 fa = fold(a), fb = fold(b), fc = fold(c), fd = fold(d);
  const Vec4 ab =
      __builtin_shufflevector(fa, fb, 0, 1, 4, 5) + __builtin_shufflevector(fa, fb, 2, 3, 6, 7);
  const Vec4 cd =
      __builtin_shufflevector(fc, fd, 0, 1, 4, 5) + __builtin_shufflevector(fc, fd, 2, 3, 6, 7);
  return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
}

TESSERA_INLINE float sum(const Lanes& a) {
  const Vec4 f = fold(a);
  return (f[0] + f[2]) + (f[1] + f[3]);
}

template <class Four, class V>
TESSERA_INLINE auto largest_by_four(V v) {
  Four part[kVec / 4];
  __builtin_memcpy(part, &v, sizeof v);
  for (uint32_t i = 1; i < kVec / 4; ++i) part[0] = part[i] > part[0] ? part[i] : part[0];
  const Four two = __builtin_shufflevector(part[0], part[0], 2, 3, 0, 1);
  const Four a = part[0] > two ? part[0] : two;
  return a[0] > a[1] ? a[0] : a[1];
}

TESSERA_INLINE float largest_of(Vec v) {
  return largest_by_four<Vec4>(v);
}
TESSERA_INLINE int32_t largest_of(IntVec v) {
  return largest_by_four<IntVec4>(v);
}

// e^x to about one unit in the last place. 0 below -87.3; x above 88 counts as 88; NaN for NaN.
TESSERA_INLINE Vec exp(Vec x) {
  const Vec lowest = splat(-87.3f);
  const Vec below = min(splat(88.0f), x);  // NaN stays
  const Vec clamped = max(below, lowest);  // NaN does not, so 2^n is a number
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum.
  const Vec magic = splat(12582912.0f);
  const Vec shifted = clamped * splat(1.44269504f) + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts, so that n * high is exact.
  const Vec r = (below - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
  // Taylor series: |r| <= ln(2) / 2, so the first term left out is below 6e-9.
  Vec p = splat(1.0f / 5040);
  p = p * r + splat(1.0f / 720);
  p = p * r + splat(1.0f / 120);
  p = p * r + splat(1.0f / 24);
  p = p * r + splat(1.0f / 6);
  p = p * r + splat(0.5f);
  p = p * r + splat(1.0f);
  p = p * r + splat(1.0f);
  const Vec power = (Vec)(((IntVec)shifted << 23) + 0x3f800000);  // 2^n
  return x < lowest ? Vec{} : p * power;
}

}  // namespace tessera::cpu::TESSERA_ISA
