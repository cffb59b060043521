// Half precision on single values, for what runs once and not in a kernel.
#pragma once

#include <bit>
#include <cstdint>

namespace tessera::cpu {

// All ones where a < b; both below 2^31. Compilers make branches of comparisons, not of this.
constexpr uint32_t mask_less(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<int32_t>(a - b) >> 31);
}

// Exponents are rebiased by 112; a subnormal's bits stand behind the one of 2^-14, which is then
// taken away. Without branches, so that loops over it become vector code, and without arithmetic on
// subnormal floats, which is slow.
inline float half_to_float(uint16_t h) {
  constexpr uint32_t kSmallestNormal = 113u << 23;  // 2^-14
  const uint32_t magnitude = (h & 0x7fffu) << 13;
  const uint32_t normal = magnitude + (112u << 23);
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude | kSmallestNormal) - 0x1p-14f);
  const uint32_t is_subnormal = mask_less(normal, kSmallestNormal);
  const uint32_t exponent = ~mask_less(magnitude, 31u << 23) & 0x7f800000u;  // infinity, NaN
  return std::bit_cast<float>((subnormal & is_subnormal) | (normal & ~is_subnormal) | exponent |
                              (h & 0x8000u) << 16);
}

// Rounds to nearest even; what is too large becomes an infinity.
inline uint16_t float_to_half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const float magnitude = std::bit_cast<float>(bits & 0x7fffffffu);
  if (!(magnitude < 65520.0f)) {
    return static_cast<uint16_t>(sign | (magnitude == magnitude ? 0x7c00u : 0x7e00u));
  }
  if (magnitude < 0x1p-14f) {  // a multiple of 2^-24, the unit of floats in [0.5, 1)
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(magnitude + 0.5f) - 0x3f000000u));
  }
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = m + 0xfffu + (m >> 13 & 1);  // half of the last place, ties to even
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace tessera::cpu
