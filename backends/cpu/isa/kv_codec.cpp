// One head of K or V in a page: F32, F16, or Q8_0 (blocks of 32: half-precision scale, 32 codes).
#include "backends/cpu/isa/half.hpp"
#include "backends/cpu/isa/tables.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

void store_f32(const float* head, uint32_t n, uint8_t* out) {
  __builtin_memcpy(out, head, size_t{n} * 4);
}

void load_f32(const uint8_t* in, uint32_t n, float* head) {
  __builtin_memcpy(head, in, size_t{n} * 4);
}

void store_f16(const float* head, uint32_t n, uint8_t* out) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) floats_to_halves(head + i, out + size_t{i} * 2);
  for (; i < n; ++i) write_half(out + size_t{i} * 2, head[i]);
}

void load_f16(const uint8_t* in, uint32_t n, float* head) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) halves_to_floats(in + size_t{i} * 2, head + i);
  for (; i < n; ++i) head[i] = read_half(in + size_t{i} * 2);
}

// The codes are taken relative to the scale as it is stored, so that its rounding costs nothing.
void store_q8_0(const float* head, uint32_t n, uint8_t* out) {
  for (uint32_t b = 0; b < n / 32; ++b, head += 32, out += 34) {
    float largest = 0;
    for (uint32_t i = 0; i < 32; ++i) {
      const float a = __builtin_fabsf(head[i]);
      largest = a > largest ? a : largest;
    }
    write_half(out, largest / 127.0f);
    const float scale = read_half(out);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (uint32_t i = 0; i < 32; ++i) {
      float code = head[i] * inverse;
      code = code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code;
      // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
      out[2 + i] = static_cast<uint8_t>(__builtin_bit_cast(uint32_t, code + 12582912.0f));
    }
  }
}

void load_q8_0(const uint8_t* in, uint32_t n, float* head) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 34, head += 32) {
    const float scale = read_half(in);
    const int8_t* codes = reinterpret_cast<const int8_t*>(in + 2);
    for (uint32_t i = 0; i < 32; ++i) head[i] = scale * static_cast<float>(codes[i]);
  }
}

}  // namespace

const Kernels::StoreHead kStoreHead[3] = {store_f32, store_f16, store_q8_0};
const Kernels::LoadHead kLoadHead[3] = {load_f32, load_f16, load_q8_0};

}  // namespace tessera::cpu::TESSERA_ISA
