// Sixteen elements of a KV plane as floats: of a key row (16 slots of one dimension) or of a value
// (16 dimensions of one slot).
#pragma once

#include "backends/cpu/isa/bytes.hpp"
#include "backends/cpu/isa/half.hpp"
#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {

struct F32Elements {
  static constexpr uint32_t kBytes = 4;
  static constexpr bool kScaled = false;
  __attribute__((always_inline)) static inline Lanes load16(const uint8_t* from) {
    Lanes out;
    __builtin_memcpy(&out, from, sizeof out);
    return out;
  }
};

struct F16Elements {
  static constexpr uint32_t kBytes = 2;
  static constexpr bool kScaled = false;
  __attribute__((always_inline)) static inline Lanes load16(const uint8_t* from) {
    return halves_to_lanes(from);
  }
};

// Codes; blocks of 32 dimensions have a scale, which follows the codes of the plane.
struct Q8Elements {
  static constexpr uint32_t kBytes = 1;
  static constexpr bool kScaled = true;
  __attribute__((always_inline)) static inline Lanes load16(const uint8_t* from) {
    return signed_to_floats(load_bytes(from));
  }
};

constexpr uint32_t kScaleBlock = 32;

}  // namespace tessera::cpu::TESSERA_ISA
