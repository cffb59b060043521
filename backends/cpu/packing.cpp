#include "backends/cpu/packing.hpp"

#include <cstring>

#include "backends/cpu/half.hpp"
#include "backends/cpu/half_packing.hpp"

namespace tessera::cpu {
namespace {

constexpr uint32_t kNibbles = 256;

// One block of one output, taken apart.
struct Elements {
  uint8_t q[kBlock];
  float scale[2];  // of elements 0 .. 15 and 16 .. 31
  float minimum;
};

float read_half(const uint8_t* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return half_to_float(bits);
}

// GGUF's Q4 and Q5 blocks keep element i in the low nibble of byte i and element i + 16 in the high
// one.
void nibbles(const uint8_t* bytes, Elements& e) {
  for (uint32_t i = 0; i < 16; ++i) {
    e.q[i] = bytes[i] & 15;
    e.q[i + 16] = bytes[i] >> 4;
  }
}

void fifth_bits(const uint8_t* bytes, Elements& e) {
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  for (uint32_t i = 0; i < kBlock; ++i) e.q[i] |= (bits >> i & 1) << 4;
}

// Six-bit scale and minimum number `j` of the twelve bytes of a K-quant's super-block.
void k_scale(const uint8_t* bytes, uint32_t j, uint32_t& scale, uint32_t& minimum) {
  if (j < 4) {
    scale = bytes[j] & 63;
    minimum = bytes[j + 4] & 63;
  } else {
    scale = (bytes[j + 4] & 15) | bytes[j - 4] >> 6 << 4;
    minimum = bytes[j + 4] >> 4 | bytes[j] >> 6 << 4;
  }
}

void one_scale(float scale, Elements& e) {
  e.scale[0] = e.scale[1] = scale;
}

// Block `b` (32 elements) of a row of GGUF blocks.
void take_apart(DType type, const uint8_t* row, uint32_t b, Elements& e) {
  const DTypeInfo& info = dtype_info(type);
  const uint8_t* block = row + size_t{b} * kBlock / info.block_elements * size_t{info.block_bytes};
  const uint32_t j = b % (info.block_elements / kBlock);  // within a super-block of 256
  e.minimum = 0;
  uint32_t scale = 0, minimum = 0;
  switch (type) {
    case DType::q4_0:
      one_scale(read_half(block), e);
      return nibbles(block + 2, e);
    case DType::q4_1:
      one_scale(read_half(block), e);
      e.minimum = read_half(block + 2);
      return nibbles(block + 4, e);
    case DType::q5_0:
      one_scale(read_half(block), e);
      nibbles(block + 6, e);
      return fifth_bits(block + 2, e);
    case DType::q5_1:
      one_scale(read_half(block), e);
      e.minimum = read_half(block + 2);
      nibbles(block + 8, e);
      return fifth_bits(block + 4, e);
    case DType::q8_0:
      one_scale(read_half(block), e);
      for (uint32_t i = 0; i < kBlock; ++i) e.q[i] = block[2 + i] ^ 0x80;
      return;
    case DType::q4_k:
    case DType::q5_k: {
      // d, dmin, 12 bytes of scales, (Q5_K: 32 bytes of fifth bits,) 128 bytes of nibbles: blocks
      // 2i and 2i + 1 are the low and high nibbles of bytes 32 i .. 32 i + 31.
      k_scale(block + 4, j, scale, minimum);
      one_scale(read_half(block) * static_cast<float>(scale), e);
      e.minimum = -read_half(block + 2) * static_cast<float>(minimum);
      const uint8_t* low = block + (type == DType::q4_k ? 16 : 48) + j / 2 * 32;
      for (uint32_t i = 0; i < kBlock; ++i) {
        e.q[i] = j % 2 ? low[i] >> 4 : low[i] & 15;
        if (type == DType::q5_k) e.q[i] |= (block[16 + i] >> j & 1) << 4;
      }
      return;
    }
    case DType::q6_k: {
      // 128 bytes of low nibbles, 64 of high pairs, 16 scales (int8, one for 16 elements), d. Half
      // h of the super-block is blocks 4h .. 4h + 3.
      const uint32_t h = j / 4, part = j % 4;
      const uint8_t* low = block + h * 64 + part % 2 * 32;
      const uint8_t* high = block + 128 + h * 32;
      const auto* scales = reinterpret_cast<const int8_t*>(block + 192) + j * 2;
      const float d = read_half(block + 208);
      for (uint32_t i = 0; i < kBlock; ++i) {
        const uint32_t nibble = part < 2 ? low[i] & 15 : low[i] >> 4;
        e.q[i] = static_cast<uint8_t>(nibble | (high[i] >> (2 * part) & 3) << 4);
      }
      e.scale[0] = d * static_cast<float>(scales[0]);
      e.scale[1] = d * static_cast<float>(scales[1]);
      return;
    }
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      break;  // not in blocks
  }
}

// Where in quad order element k of an output lies: quad and index.
constexpr uint32_t quad_of(uint32_t k) {
  return k / 4;
}
constexpr uint32_t index_of(uint32_t output, uint32_t k) {
  return output * 4 + k % 4;
}

void write_half(float value, uint8_t* at) {
  const uint16_t bits = float_to_half(value);
  std::memcpy(at, &bits, sizeof(bits));
}

void put(Packing packing, const Elements& e, uint32_t output, uint8_t* block) {
  uint8_t* behind = block + (packing == Packing::u8z ? 512 : kNibbles);
  for (uint32_t k = 0; k < kBlock; ++k) {
    const uint32_t quad = quad_of(k), i = index_of(output, k);
    const uint8_t q = e.q[k];
    if (packing == Packing::u8z) {
      block[quad * 64 + i] = q;
      continue;
    }
    block[quad % 4 * 64 + i] |= static_cast<uint8_t>((q & 15) << (quad / 4 * 4));
    if (packing == Packing::u5z || packing == Packing::u5m) {
      behind[quad * 8 + i / 8] |= static_cast<uint8_t>((q >> 4 & 1) << (i % 8));
    } else if (packing == Packing::u6z) {
      behind[quad / 4 * 64 + i] |= static_cast<uint8_t>((q >> 4) << (quad % 4 * 2));
    }
  }
  if (packing == Packing::u5z || packing == Packing::u5m) behind += 64;
  if (packing == Packing::u6z) behind += 128;
  write_half(e.scale[0], behind + output * 2);
  if (packing == Packing::u4m || packing == Packing::u5m) {
    write_half(e.minimum, behind + 32 + output * 2);
  } else if (packing == Packing::u6z) {
    write_half(e.scale[1], behind + 32 + output * 2);
  }
}

}  // namespace

std::optional<Packing> packing_of(DType type) {
  switch (type) {
    case DType::q4_0:
      return Packing::u4z;
    case DType::q4_1:
    case DType::q4_k:
      return Packing::u4m;
    case DType::q5_0:
      return Packing::u5z;
    case DType::q5_1:
    case DType::q5_k:
      return Packing::u5m;
    case DType::q6_k:
      return Packing::u6z;
    case DType::q8_0:
      return Packing::u8z;
    case DType::f16:
    case DType::bf16:
      return Packing::s14;
    case DType::f32:
      break;
  }
  return std::nullopt;
}

void pack_group(DType type, const uint8_t* rows, uint64_t row_stride, uint32_t row_count,
                uint32_t columns, uint8_t* out) {
  const Packing packing = *packing_of(type);
  const uint32_t bytes = packed_block_bytes(packing);
  std::memset(out, 0, size_t{columns} / kBlock * bytes);
  if (packing == Packing::s14) {
    return pack_halves(type, rows, row_stride, row_count, columns, out);
  }
  for (uint32_t r = 0; r < row_count; ++r) {
    for (uint32_t b = 0; b < columns / kBlock; ++b) {
      Elements e = {};
      take_apart(type, rows + r * row_stride, b, e);
      put(packing, e, r, out + size_t{b} * bytes);
    }
  }
}

void unpack_row(Packing packing, const uint8_t* group, uint32_t output, uint32_t columns,
                float* out) {
  if (packing == Packing::s14) return unpack_halves(group, output, columns, out);
  constexpr int kZero[] = {8, 0, 16, 0, 32, 128};
  const int zero = kZero[static_cast<size_t>(packing)];
  const uint32_t bytes = packed_block_bytes(packing);
  for (uint32_t b = 0; b < columns / kBlock; ++b, group += bytes, out += kBlock) {
    const uint8_t* behind = group + (packing == Packing::u8z ? 512 : kNibbles);
    const uint8_t* high = behind;
    if (packing == Packing::u5z || packing == Packing::u5m) behind += 64;
    if (packing == Packing::u6z) behind += 128;
    const float scale = read_half(behind + output * 2);
    const bool has_minimum = packing == Packing::u4m || packing == Packing::u5m;
    const float minimum = has_minimum ? read_half(behind + 32 + output * 2) : 0.0f;
    const float scale_high = packing == Packing::u6z ? read_half(behind + 32 + output * 2) : scale;
    for (uint32_t k = 0; k < kBlock; ++k) {
      const uint32_t quad = quad_of(k), i = index_of(output, k);
      int q = packing == Packing::u8z ? group[quad * 64 + i]
                                      : group[quad % 4 * 64 + i] >> (quad / 4 * 4) & 15;
      if (packing == Packing::u5z || packing == Packing::u5m) {
        q |= (high[quad * 8 + i / 8] >> (i % 8) & 1) << 4;
      } else if (packing == Packing::u6z) {
        q |= (high[quad / 4 * 64 + i] >> (quad % 4 * 2) & 3) << 4;
      }
      out[k] = static_cast<float>(q - zero) * (k < 16 ? scale : scale_high) + minimum;
    }
  }
}

}  // namespace tessera::cpu
