#include "backends/cpu/half_packing.hpp"

#include <bit>
#include <cstring>
#include <limits>

#include "backends/cpu/half.hpp"
#include "backends/cpu/packing.hpp"

namespace tessera::cpu {
namespace {

constexpr uint32_t kPair = 2;           // elements of an output that lie side by side
constexpr uint32_t kVector = 64;        // bytes: a pair of each of 16 outputs
constexpr uint32_t kScalesAt = 1024;    // 16 vectors
constexpr float kMaxCode = 8191;        // 14 bits with the sign
constexpr float kSmallest = 0x1p-100f;  // a block of less is zero: kMaxCode / it stays finite

template <DType type>
float to_float(uint16_t bits) {
  return type == DType::f16 ? half_to_float(bits) : std::bit_cast<float>(uint32_t{bits} << 16);
}

// 32 elements of one output. Plain loops of fixed length, which compilers turn into vectors.
template <DType type>
void pack_block(const uint8_t* from, uint32_t output, uint8_t* block) {
  uint16_t x[kBlock];
  std::memcpy(x, from, sizeof(x));
  // As integers, magnitudes have the same order, and NaN is the largest.
  int16_t largest = 0;
  for (uint32_t k = 0; k < kBlock; ++k) {
    const int16_t bits = static_cast<int16_t>(x[k] & 0x7fff);
    largest = bits > largest ? bits : largest;
  }
  const float magnitude = to_float<type>(static_cast<uint16_t>(largest));
  const bool usable = magnitude >= kSmallest && magnitude <= std::numeric_limits<float>::max();
  // 0 for a block of zeros; infinity and NaN make the whole block NaN.
  const float scale = usable ? magnitude / kMaxCode : magnitude * 0.0f;
  std::memcpy(block + kScalesAt + output * sizeof(scale), &scale, sizeof(scale));
  if (!usable) return;

  const float inverse = kMaxCode / magnitude;
  // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even; its low bits are the integer.
  constexpr float kMagic = 12582912.0f;
  uint16_t codes[kBlock];
  for (uint32_t k = 0; k < kBlock; ++k) {
    const float rounded = to_float<type>(x[k]) * inverse + kMagic;
    codes[k] = static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded));
  }
  uint8_t* to = block + output * kPair * sizeof(int16_t);
  for (uint32_t j = 0; j < kBlock / kPair; ++j, to += kVector) {
    std::memcpy(to, codes + kPair * j, kPair * sizeof(int16_t));
  }
}

template <DType type>
void pack(const uint8_t* rows, uint64_t row_stride, uint32_t row_count, uint32_t columns,
          uint8_t* out) {
  for (uint32_t k = 0; k < columns; k += kBlock, out += packed_block_bytes(Packing::s14)) {
    for (uint32_t r = 0; r < row_count; ++r) {
      pack_block<type>(rows + r * row_stride + k * sizeof(uint16_t), r, out);
    }
  }
}

}  // namespace

void pack_halves(DType type, const uint8_t* rows, uint64_t row_stride, uint32_t row_count,
                 uint32_t columns, uint8_t* out) {
  if (type == DType::f16) {
    pack<DType::f16>(rows, row_stride, row_count, columns, out);
  } else {
    pack<DType::bf16>(rows, row_stride, row_count, columns, out);
  }
}

void unpack_halves(const uint8_t* group, uint32_t output, uint32_t columns, float* out) {
  for (uint32_t k = 0; k < columns; k += kBlock, group += packed_block_bytes(Packing::s14)) {
    float scale;
    std::memcpy(&scale, group + kScalesAt + output * sizeof(scale), sizeof(scale));
    for (uint32_t j = 0; j < kBlock / kPair; ++j) {
      int16_t codes[kPair];
      std::memcpy(codes, group + j * kVector + output * sizeof(codes), sizeof(codes));
      *out++ = static_cast<float>(codes[0]) * scale;
      *out++ = static_cast<float>(codes[1]) * scale;
    }
  }
}

}  // namespace tessera::cpu
