// Half precision on single values, for what runs once and not in a kernel.
#pragma once

#include <bit>
#include <cstdint>

namespace tessera::cpu {

// The 15 bits below the sign, moved to float's place, are the value times 2^-112, subnormal or not.
inline float half_to_float(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t bits =
      magnitude >= 0x7c00u
          ? magnitude << 13 | 0x7f800000u  // infinity, NaN
          : std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  return std::bit_cast<float>(bits | (h & 0x8000u) << 16);
}

// Rounds to nearest even; saturates at the largest finite value.
inline uint16_t float_to_half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const float magnitude = std::bit_cast<float>(bits & 0x7fffffffu);
  if (!(magnitude < 65504.0f)) return static_cast<uint16_t>(sign | 0x7bffu);
  if (magnitude < 0x1p-14f) {  // a multiple of 2^-24, the unit of floats in [0.5, 1)
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(magnitude + 0.5f) - 0x3f000000u));
  }
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = m + 0xfffu + (m >> 13 & 1);  // half of the last place, ties to even
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace tessera::cpu
