// Weights of every GGUF type to fp32, exactly: each product of a scale and a code has at most 24
// significant bits, so only the final addition of a minimum can round.
//
// `d` and `m` are half-precision scale and minimum; a code of 4 bits has its low half (elements
// 0 ... n/2 - 1) in the low nibbles and its high half in the high nibbles.
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

// {d, 16 bytes of codes}: d * (code - 8).
void q4_0(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 18, out += 32) {
    const float d = read_half(in);
    const uint8_t* codes = in + 2;
    for (uint32_t i = 0; i < 16; ++i) out[i] = d * static_cast<float>((codes[i] & 15) - 8);
    for (uint32_t i = 0; i < 16; ++i) out[16 + i] = d * static_cast<float>((codes[i] >> 4) - 8);
  }
}

// {d, m, 16 bytes of codes}: d * code + m.
void q4_1(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 20, out += 32) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const uint8_t* codes = in + 4;
    for (uint32_t i = 0; i < 16; ++i) out[i] = d * static_cast<float>(codes[i] & 15) + m;
    for (uint32_t i = 0; i < 16; ++i) out[16 + i] = d * static_cast<float>(codes[i] >> 4) + m;
  }
}

// The fifth bit of element i of a block is bit i of `high`.
TESSERA_INLINE void five_bits(const uint8_t* high_bytes, const uint8_t* codes, int32_t* q) {
  uint32_t high;
  __builtin_memcpy(&high, high_bytes, sizeof high);
  for (uint32_t i = 0; i < 16; ++i) {
    q[i] = static_cast<int32_t>((codes[i] & 15u) | (high >> i & 1u) << 4);
  }
  for (uint32_t i = 0; i < 16; ++i) {
    q[16 + i] = static_cast<int32_t>((codes[i] >> 4u) | (high >> (16 + i) & 1u) << 4);
  }
}

// {d, 4 bytes of fifth bits, 16 bytes of codes}: d * (code - 16).
void q5_0(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 22, out += 32) {
    const float d = read_half(in);
    int32_t q[32];
    five_bits(in + 2, in + 6, q);
    for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i] - 16);
  }
}

// {d, m, 4 bytes of fifth bits, 16 bytes of codes}: d * code + m.
void q5_1(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 32; ++b, in += 24, out += 32) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    int32_t q[32];
    five_bits(in + 4, in + 8, q);
    for (uint32_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]) + m;
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
      s0 *= d, m0 *= m, s1 *= d, m1 *= m;
      for (uint32_t i = 0; i < 32; ++i) out[i] = s0 * static_cast<float>(codes[i] & 15) - m0;
      for (uint32_t i = 0; i < 32; ++i) out[32 + i] = s1 * static_cast<float>(codes[i] >> 4) - m1;
    }
  }
}

// As Q4_K with 32 bytes of fifth bits before the codes: bit j of byte i belongs to element i of
// sub-block j.
void q5_k(const uint8_t* in, uint32_t n, float* out) {
  for (uint32_t b = 0; b < n / 256; ++b, in += 176) {
    const float d = read_half(in);
    const float m = read_half(in + 2);
    const uint8_t* high = in + 16;
    const uint8_t* codes = in + 48;
    for (uint32_t j = 0; j < 8; j += 2, codes += 32, out += 64) {
      float s0, m0, s1, m1;
      scale_and_minimum(in + 4, j, s0, m0);
      scale_and_minimum(in + 4, j + 1, s1, m1);
      s0 *= d, m0 *= m, s1 *= d, m1 *= m;
      for (uint32_t i = 0; i < 32; ++i) {
        out[i] = s0 * static_cast<float>((codes[i] & 15) | (high[i] >> j & 1) << 4) - m0;
      }
      for (uint32_t i = 0; i < 32; ++i) {
        out[32 + i] = s1 * static_cast<float>((codes[i] >> 4) | (high[i] >> (j + 1) & 1) << 4) - m1;
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
    for (uint32_t half = 0; half < 2; ++half) {
      const uint8_t* low = in + 64 * half;
      const uint8_t* high = in + 128 + 32 * half;
      for (uint32_t g = 0; g < 4; ++g, scales += 2, out += 32) {
        const uint8_t* l = low + 32 * (g % 2);
        const uint32_t shift = 4 * (g / 2);
        for (uint32_t s = 0; s < 2; ++s) {
          const float scale = d * static_cast<float>(scales[s]);
          for (uint32_t i = 16 * s; i < 16 * s + 16; ++i) {
            const int32_t code = (l[i] >> shift & 15) | (high[i] >> (2 * g) & 3) << 4;
            out[i] = scale * static_cast<float>(code - 32);
          }
        }
      }
    }
  }
}

}  // namespace

const Kernels::Dequantise kDequantise[11] = {f32,  f16,  bf16, q4_0, q4_1, q5_0,
                                             q5_1, q8_0, q4_k, q5_k, q6_k};

}  // namespace tessera::cpu::TESSERA_ISA
