// Keys and values of one head on their way into a plane of a page (pages.hpp): F32, F16, or Q8_0
// (blocks of 32 elements: int8 codes and a half-precision scale).
#include "backends/cpu/isa/half.hpp"
#include "backends/cpu/isa/tables.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

constexpr uint32_t kBlock = 32;

// Element d of the slot is element at[d * stride] of the plane.
struct Place {
  size_t at;
  size_t stride;
};
Place key_place(uint32_t, uint32_t slots, uint32_t slot) {
  return {slot, slots};
}
Place value_place(uint32_t head_dim, uint32_t, uint32_t slot) {
  return {size_t{slot} * head_dim, 1};
}

template <Place (*place)(uint32_t, uint32_t, uint32_t)>
void store_f32(const float* head, uint32_t n, uint8_t* plane, uint32_t slots, uint32_t slot) {
  const Place p = place(n, slots, slot);
  uint8_t* out = plane + p.at * 4;
  for (uint32_t d = 0; d < n; ++d) __builtin_memcpy(out + d * p.stride * 4, head + d, 4);
}

template <Place (*place)(uint32_t, uint32_t, uint32_t)>
void store_f16(const float* head, uint32_t n, uint8_t* plane, uint32_t slots, uint32_t slot) {
  const Place p = place(n, slots, slot);
  uint8_t* out = plane + p.at * 2;
  uint32_t d = 0;
  for (; d + 8 <= n; d += 8) {
    uint8_t halves[16];
    floats_to_halves(head + d, halves);
    for (uint32_t i = 0; i < 8; ++i) {
      __builtin_memcpy(out + (d + i) * p.stride * 2, halves + 2 * i, 2);
    }
  }
  for (; d < n; ++d) write_half(out + d * p.stride * 2, head[d]);
}

// The codes are taken relative to the scale as it is stored, so that its rounding costs nothing.
template <Place (*place)(uint32_t, uint32_t, uint32_t)>
void store_q8_0(const float* head, uint32_t n, uint8_t* plane, uint32_t slots, uint32_t slot) {
  const Place codes = place(n, slots, slot);
  const Place scales = place(n / kBlock, slots, slot);
  uint8_t* scale_out = plane + size_t{n} * slots + scales.at * 2;
  for (uint32_t b = 0; b < n / kBlock; ++b, head += kBlock) {
    float largest = 0;
    for (uint32_t i = 0; i < kBlock; ++i) {
      const float a = __builtin_fabsf(head[i]);
      largest = a > largest ? a : largest;
    }
    uint8_t* scale_at = scale_out + b * scales.stride * 2;
    write_half(scale_at, largest / 127.0f);
    const float scale = read_half(scale_at);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (uint32_t i = 0; i < kBlock; ++i) {
      float code = head[i] * inverse;
      code = code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code;
      // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
      plane[codes.at + (b * kBlock + i) * codes.stride] =
          static_cast<uint8_t>(__builtin_bit_cast(uint32_t, code + 12582912.0f));
    }
  }
}

}  // namespace

const Kernels::StoreHead kStoreKey[3] = {store_f32<key_place>, store_f16<key_place>,
                                         store_q8_0<key_place>};
const Kernels::StoreHead kStoreValue[3] = {store_f32<value_place>, store_f16<value_place>,
                                           store_q8_0<value_place>};

}  // namespace tessera::cpu::TESSERA_ISA
