// The block layouts, written from their definition: one value at a time, no tables, no vectors.
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "backends/error.hpp"
#include "tests/fuzz/quantise.hpp"

namespace tessera::test {
namespace {

template <typename T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

float half_at(const uint8_t* from) {
  return half_to_float(load<uint16_t>(from));
}

// Element j of 32 nibbles in 16 bytes.
int nibble(const uint8_t* bytes, int j) {
  return j < 16 ? bytes[j] & 15 : bytes[j - 16] >> 4;
}

// Element j of a 5-bit block: `bytes` is the 32-bit word of fifth bits, then the nibbles.
int five_bits(const uint8_t* bytes, int j) {
  return nibble(bytes + 4, j) | static_cast<int>(load<uint32_t>(bytes) >> j & 1) << 4;
}

float k_affine(const uint8_t* block, int bits, int j) {
  const int s = j / 32, lane = j % 32;
  const uint8_t* packed = block + 4;
  const uint8_t* fifth = packed + 12;
  const uint8_t* nibbles = bits == 5 ? fifth + 32 : fifth;
  const int scale = s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4;
  const int minimum = s < 4 ? packed[s + 4] & 63 : (packed[s + 4] >> 4) | (packed[s] >> 6) << 4;
  int q = nibbles[32 * (s / 2) + lane] >> (s % 2 * 4) & 15;
  if (bits == 5) q |= (fifth[lane] >> s & 1) << 4;
  return half_at(block) * static_cast<float>(scale) * static_cast<float>(q) -
         half_at(block + 2) * static_cast<float>(minimum);
}

float q6_k(const uint8_t* block, int j) {
  const int half = j / 128, run = j % 128 / 32, lane = j % 32;
  const int low = block[64 * half + 32 * (run % 2) + lane] >> (run / 2 * 4) & 15;
  const int high = block[128 + 32 * half + lane] >> (2 * run) & 3;
  const auto scale = static_cast<int8_t>(block[192 + j / 16]);
  return half_at(block + 208) * static_cast<float>(scale) *
         static_cast<float>((low | high << 4) - 32);
}

// Element j of the block at `b`.
float element(DType type, const uint8_t* b, int j) {
  switch (type) {
    case DType::f32:
      return load<float>(b);
    case DType::f16:
      return half_at(b);
    case DType::bf16:
      return std::bit_cast<float>(uint32_t{load<uint16_t>(b)} << 16);
    case DType::q4_0:
      return half_at(b) * static_cast<float>(nibble(b + 2, j) - 8);
    case DType::q4_1:
      return half_at(b) * static_cast<float>(nibble(b + 4, j)) + half_at(b + 2);
    case DType::q5_0:
      return half_at(b) * static_cast<float>(five_bits(b + 2, j) - 16);
    case DType::q5_1:
      return half_at(b) * static_cast<float>(five_bits(b + 4, j)) + half_at(b + 2);
    case DType::q8_0:
      return half_at(b) * static_cast<float>(static_cast<int8_t>(b[2 + j]));
    case DType::q4_k:
      return k_affine(b, 4, j);
    case DType::q5_k:
      return k_affine(b, 5, j);
    case DType::q6_k:
      return q6_k(b, j);
  }
  return 0;
}

}  // namespace

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 31;
  const uint32_t mantissa = half & 1023;
  if (exponent == 0) {  // zero and multiples of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;  // biases 15 and 127
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

std::vector<float> dequantise(DType type, const void* data, uint64_t elements) {
  const DTypeInfo& info = dtype_info(type);
  if (elements % info.block_elements != 0) {
    fail(Status::invalid_argument, "dequantise: " + std::to_string(elements) + " values; " +
                                       info.name + " needs a multiple of " +
                                       std::to_string(info.block_elements));
  }
  const auto* bytes = static_cast<const uint8_t*>(data);
  std::vector<float> out(elements);
  for (uint64_t i = 0; i < elements; ++i) {
    const uint64_t block = i / info.block_elements;
    out[i] =
        element(type, bytes + block * info.block_bytes, static_cast<int>(i % info.block_elements));
  }
  return out;
}

}  // namespace tessera::test
