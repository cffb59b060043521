#include "tests/fuzz/quantise.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "backends/error.hpp"

namespace tessera::test {
namespace {

void put_half(uint8_t* out, uint16_t half) {
  std::memcpy(out, &half, sizeof(half));
}

// Stores `value` as a half and returns what a reader gets back: levels are chosen against that.
float store_half(uint8_t* out, float value) {
  const uint16_t half = float_to_half(value);
  put_half(out, half);
  return half_to_float(half);
}

// round(x / step) in [low, high]; everything is 0 where the step is 0.
int level(float x, float step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::clamp(std::nearbyint(x / step), static_cast<float>(low), static_cast<float>(high)));
}

// The value of largest magnitude, with its sign.
float extreme(const float* x, int count) {
  return *std::max_element(x, x + count,
                           [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

// Low four bits of 32 levels: byte j holds element j (low nibble) and j + 16 (high nibble).
void pack_nibbles(uint8_t* out, const int* levels) {
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<uint8_t>((levels[j] & 15) | ((levels[j + 16] & 15) << 4));
  }
}

// Fifth bits of 32 levels, element j in bit j.
void pack_fifth_bits(uint8_t* out, const int* levels) {
  uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= static_cast<uint32_t>(levels[j] >> 4) << j;
  std::memcpy(out, &bits, sizeof(bits));
}

// Q4_0, Q5_0: d, [fifth bits], nibbles; x = d * (q - 2^(bits-1)). The extreme value gets the end of
// the range with more room, hence the negative divisor.
void symmetric_block(const float* x, int bits, uint8_t* out) {
  const int half_range = 1 << (bits - 1);
  const float d = store_half(out, extreme(x, 32) / static_cast<float>(-half_range));
  int levels[32];
  for (int j = 0; j < 32; ++j) {
    levels[j] = level(x[j], d, -half_range, half_range - 1) + half_range;
  }
  out += 2;
  if (bits == 5) pack_fifth_bits(out, levels), out += 4;
  pack_nibbles(out, levels);
}

// Q4_1, Q5_1: d, m, [fifth bits], nibbles; x = d * q + m.
void affine_block(const float* x, int bits, uint8_t* out) {
  const int top = (1 << bits) - 1;
  const auto [low, high] = std::minmax_element(x, x + 32);
  const float d = store_half(out, (*high - *low) / static_cast<float>(top));
  const float m = store_half(out + 2, *low);
  int levels[32];
  for (int j = 0; j < 32; ++j) levels[j] = level(x[j] - m, d, 0, top);
  out += 4;
  if (bits == 5) pack_fifth_bits(out, levels), out += 4;
  pack_nibbles(out, levels);
}

void q8_0_block(const float* x, uint8_t* out) {
  const float d = store_half(out, std::fabs(extreme(x, 32)) / 127);
  for (int j = 0; j < 32; ++j) out[2 + j] = static_cast<uint8_t>(level(x[j], d, -127, 127));
}

// Q4_K, Q5_K: d, dmin, 12 bytes of 6-bit scales and minima, [32 bytes of fifth bits], 128 bytes of
// nibbles. Sub-block s of 32 values: x = d * scale[s] * q - dmin * minimum[s].
void k_affine_block(const float* x, int bits, uint8_t* out) {
  const int top = (1 << bits) - 1;
  float steps[8], depths[8];  // wanted d * scale and dmin * minimum
  for (int s = 0; s < 8; ++s) {
    const auto [low, high] = std::minmax_element(x + 32 * s, x + 32 * s + 32);
    depths[s] = std::max(0.0f, -*low);
    steps[s] = std::max(0.0f, *high + depths[s]) / static_cast<float>(top);
  }
  const float d = store_half(out, *std::max_element(steps, steps + 8) / 63);
  const float dmin = store_half(out + 2, *std::max_element(depths, depths + 8) / 63);

  uint8_t* packed = out + 4;
  uint8_t* fifth = packed + 12;
  uint8_t* nibbles = bits == 5 ? fifth + 32 : fifth;
  std::memset(packed, 0, static_cast<size_t>(nibbles + 128 - packed));
  for (int s = 0; s < 8; ++s) {
    const int scale = level(steps[s], d, 0, 63);
    const int minimum = level(depths[s], dmin, 0, 63);
    // Sub-blocks 0 to 3 have a byte each for scale and minimum; the high two bits of these bytes
    // and the nibbles of the last four bytes serve sub-blocks 4 to 7.
    if (s < 4) {
      packed[s] |= static_cast<uint8_t>(scale);
      packed[s + 4] |= static_cast<uint8_t>(minimum);
    } else {
      packed[s + 4] |= static_cast<uint8_t>((scale & 15) | ((minimum & 15) << 4));
      packed[s - 4] |= static_cast<uint8_t>((scale >> 4) << 6);
      packed[s] |= static_cast<uint8_t>((minimum >> 4) << 6);
    }
    const float step = d * static_cast<float>(scale);
    const float depth = dmin * static_cast<float>(minimum);
    for (int j = 0; j < 32; ++j) {
      const int q = level(x[32 * s + j] + depth, step, 0, top);
      nibbles[32 * (s / 2) + j] |= static_cast<uint8_t>((q & 15) << (s % 2 * 4));
      if (bits == 5) fifth[j] |= static_cast<uint8_t>((q >> 4) << s);
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 int8 scales, d.
// Sub-block s of 16 values: x = d * scale[s] * (q - 32).
void q6_k_block(const float* x, uint8_t* out) {
  float steps[16];
  for (int s = 0; s < 16; ++s) steps[s] = extreme(x + 16 * s, 16) / -32;
  const float d = store_half(out + 208, std::fabs(extreme(steps, 16)) / 127);
  std::memset(out, 0, 192);
  for (int s = 0; s < 16; ++s) {
    const int scale = level(steps[s], d, -127, 127);
    out[192 + s] = static_cast<uint8_t>(scale);
    for (int j = 16 * s; j < 16 * s + 16; ++j) {
      const int q = level(x[j], d * static_cast<float>(scale), -32, 31) + 32;
      // In each half of 128 values: four runs of 32. Runs 0 and 1 take the low nibbles, 2 and 3 the
      // high nibbles of the same 64 bytes; run r has the bit pair 2r of 32 bytes.
      const int half = j / 128, run = j % 128 / 32, lane = j % 32;
      out[64 * half + 32 * (run % 2) + lane] |= static_cast<uint8_t>((q & 15) << (run / 2 * 4));
      out[128 + 32 * half + lane] |= static_cast<uint8_t>((q >> 4) << (2 * run));
    }
  }
}

uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void quantise_block(DType type, const float* x, uint8_t* out) {
  switch (type) {
    case DType::f32:
      std::memcpy(out, x, sizeof(float));
      return;
    case DType::f16:
      put_half(out, float_to_half(*x));
      return;
    case DType::bf16:
      put_half(out, float_to_bf16(*x));
      return;
    case DType::q4_0:
      symmetric_block(x, 4, out);
      return;
    case DType::q5_0:
      symmetric_block(x, 5, out);
      return;
    case DType::q4_1:
      affine_block(x, 4, out);
      return;
    case DType::q5_1:
      affine_block(x, 5, out);
      return;
    case DType::q8_0:
      q8_0_block(x, out);
      return;
    case DType::q4_k:
      k_affine_block(x, 4, out);
      return;
    case DType::q5_k:
      k_affine_block(x, 5, out);
      return;
    case DType::q6_k:
      q6_k_block(x, out);
      return;
  }
}

}  // namespace

uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);   // NaN
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 65536 and more
  if (magnitude < 0x38800000) {  // below 2^-14: multiples of 2^-24
    const float steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(steps));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

std::vector<uint8_t> quantise(DType type, const std::vector<float>& values) {
  const DTypeInfo& info = dtype_info(type);
  if (values.size() % info.block_elements != 0) {
    fail(Status::invalid_argument, "quantise: " + std::to_string(values.size()) + " values; " +
                                       info.name + " needs a multiple of " +
                                       std::to_string(info.block_elements));
  }
  std::vector<uint8_t> out(row_bytes(type, values.size()));
  for (size_t i = 0, block = 0; i < values.size(); i += info.block_elements, ++block) {
    quantise_block(type, values.data() + i, out.data() + block * info.block_bytes);
  }
  return out;
}

}  // namespace tessera::test
