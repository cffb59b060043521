// Weights of every GGUF type to fp32, exactly: each product of a scale and a code has at most 24
// significant bits, so only the final addition of a minimum can round.
//
// `d` and `m` are half-precision scale and minimum. Of 16 bytes of 4-bit codes the low nibbles are
// elements 0 to 15 of a block, the high nibbles elements 16 to 31.
#include "backends/cpu/isa/bytes.hpp"
#include "backends/cpu/isa/half.hpp"
#include "backends/cpu/isa/tables.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

void f32(const uint8_t* in, uint32_t n, float* out) {
  __builtin_memcpy(out, in, size_t{n} * 4);
}

void f16(const uint8_t* in, uint32_t n, float* out) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) halves_to_floats(in + size_t{i} * 2, out + i);
  for (; i < n; ++i) out[i] = read_half(in + size_t{i} * 2);
}

void bf16(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t i = 0; i < n; ++i) {
    uint16_t high;
    __builtin_memcpy(&high, in + size_t{i} * 2, sizeof high);
    out[i] = __builtin_bit_cast(float, uint32_t{high} << 16);
  }
}

// out = scale * code + offset, 16 elements.
TESSERA_INLINE void put(float* out, Bytes codes, float scale, float offset) {
  const Lanes c = to_floats(codes);
  for (uint32_t i = 0; i < kParts; ++i) {
    store(out + i * kVec, c.part[i] * splat(scale) + splat(offset));
  }
}

// out = scale * (code - zero), 16 elements.
TESSERA_INLINE void put_centred(float* out, Bytes codes, float scale, float zero) {
  const Lanes c = to_floats(codes);
  for (uint32_t i = 0; i < kParts; ++i) {
    store(out + i * kVec, (c.part[i] - splat(zero)) * splat(scale));
  }
}

// {d, 16 bytes of codes}: d * (code - 8).
void q4_0(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 18, out += 32) {
    const float d = read_half(in);
    const Bytes codes = load_bytes(in + 2);
    put_centred(out, codes & 15, d, 8);
    put_centred(out + 16, codes >> 4, d, 8);
  }
}

// {d, m, 16 bytes of codes}: d * code + m.
void q4_1(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 20, out += 32) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const Bytes codes = load_bytes(in + 4);
    put(out, codes & 15, d, m);
    put(out + 16, codes >> 4, d, m);
  }
}

// 16 where the bit of an element is set in two bytes of bits, else 0.
TESSERA_INLINE Bytes fifth_bits(const uint8_t* bits) {
  const uint8_t a = bits[0], b = bits[1];
  const Bytes spread = {a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b};
  const Bytes mask = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  return (Bytes)((spread & mask) != 0) & 16;
}

// {d, 4 bytes of fifth bits, 16 bytes of codes}: d * (code - 16).
void q5_0(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 22, out += 32) {
    const float d = read_half(in);
    const Bytes codes = load_bytes(in + 6);
    put_centred(out, (codes & 15) | fifth_bits(in + 2), d, 16);
    put_centred(out + 16, (codes >> 4) | fifth_bits(in + 4), d, 16);
  }
}

// {d, m, 4 bytes of fifth bits, 16 bytes of codes}: d * code + m.
void q5_1(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 24, out += 32) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const Bytes codes = load_bytes(in + 8);
    put(out, (codes & 15) | fifth_bits(in + 4), d, m);
    put(out + 16, (codes >> 4) | fifth_bits(in + 6), d, m);
  }
}

// {d, 32 signed bytes}: d * code.
void q8_0(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 34, out += 32) {
    const float d = read_half(in);
    const int8_t* codes = reinterpret_cast<const int8_t*>(in + 2);
    for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(codes[i]);
  }
}

// Scale and minimum j of the eight of a K block, 6 bits each in 12 bytes: the first four of each
// are the low bits of bytes 0-3 and 4-7; of the others the low 4 bits share bytes 8-11 and the high
// 2 bits are the top bits of bytes 0-3 and 4-7.
TESSERA_INLINE void scale_and_minimum(const uint8_t* s, uint32_t j, float& scale, float& minimum) {
  if (j < 4) {
    scale = static_cast<float>(s[j] & 63);
    minimum = static_cast<float>(s[j + 4] & 63);
  } else {
    scale = static_cast<float>((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
    minimum = static_cast<float>((s[j + 4] >> 4) | (s[j] >> 6) << 4);
  }
}

// {d, m, 12 bytes of scales, 128 bytes of codes}, eight sub-blocks of 32:
// d * scale * code - m * minimum. 32 bytes hold sub-blocks 2j (low nibbles) and 2j + 1 (high).
void q4_k(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 256; ++b, in += 144) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const uint8_t* codes = in + 16;
    for (uint32_t j = 0; j < 8; j += 2, codes += 32, out += 64) {
      float s0, m0, s1, m1;
      scale_and_minimum(in + 4, j, s0, m0);
      scale_and_minimum(in + 4, j + 1, s1, m1);
      for (uint32_t i = 0; i < 32; i += 16) {
        const Bytes c = load_bytes(codes + i);
        put(out + i, c & 15, d * s0, -m * m0);
        put(out + 32 + i, c >> 4, d * s1, -m * m1);
      }
    }
  }
}

// As Q4_K with 32 bytes of fifth bits before the codes: bit j of byte i belongs to element i of
// sub-block j.
void q5_k(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 256; ++b, in += 176) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const uint8_t* codes = in + 48;
    for (uint32_t j = 0; j < 8; j += 2, codes += 32, out += 64) {
      float s0, m0, s1, m1;
      scale_and_minimum(in + 4, j, s0, m0);
      scale_and_minimum(in + 4, j + 1, s1, m1);
      for (uint32_t i = 0; i < 32; i += 16) {
        const Bytes c = load_bytes(codes + i);
        const Bytes high = load_bytes(in + 16 + i) >> static_cast<uint8_t>(j);
        put(out + i, (c & 15) | (high & 1) << 4, d * s0, -m * m0);
        put(out + 32 + i, (c >> 4) | (high & 2) << 3, d * s1, -m * m1);
      }
    }
  }
}

// {128 bytes of low nibbles, 64 bytes of high pairs of bits, 16 signed scales, d}, sub-blocks of
// 16: d * scale * (code - 32). Each half of 128 elements uses 64 + 32 bytes: quarter g of 32
// elements has its low bits in bytes 32 * (g % 2) ..., nibble g / 2, and its high bits at 2g.
void q6_k(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 256; ++b, in += 210) {
    const float d = read_half(in + 208);
    const int8_t* scales = reinterpret_cast<const int8_t*>(in + 192);
    for (uint32_t half = 0; half < 2; ++half, scales += 8, out += 128) {
      for (uint32_t i = 0; i < 32; i += 16) {
        const Bytes low = load_bytes(in + 64 * half + i);
        const Bytes low_odd = load_bytes(in + 64 * half + 32 + i);
        const Bytes high = load_bytes(in + 128 + 32 * half + i);
        const auto quarter = [&](uint32_t g, Bytes codes) {
          put_centred(out + 32 * g + i, codes, d * static_cast<float>(scales[2 * g + i / 16]), 32);
        };
        quarter(0, (low & 15) | (high & 3) << 4);
        quarter(1, (low_odd & 15) | (high & 12) << 2);
        quarter(2, (low >> 4) | (high & 48));
        quarter(3, (low_odd >> 4) | (high & 192) >> 2);
      }
    }
  }
}

}  // namespace

const Kernels::Dequantise kDequantise[11] = {f32,  f16,  bf16, q4_0, q4_1, q5_0,
                                             q5_1, q8_0, q4_k, q5_k, q6_k};

}  // namespace tessera::cpu::TESSERA_ISA
