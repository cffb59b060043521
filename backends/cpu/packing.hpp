// Weights as the integer kernels want them: sixteen outputs interleaved, so that one multiply-add
// instruction serves sixteen outputs and no sum over lanes is ever needed.
//
// A weight [rows][columns] becomes groups of 16 rows; a group is columns / 32 blocks, one after the
// other; the last group is filled up with rows of zeros. Quad j of a block is its elements
// 4j .. 4j + 3 (j = 0 .. 7); "quad order" is [output][element of the quad], 64 elements.
//   nibbles  256 bytes: byte i of vector j (j = 0 .. 3) holds quad j in its low nibble and quad
//            j + 4 in its high nibble, in quad order
//   bits5     64 bytes: bit i of 64-bit word j is bit 4 of quad j, in quad order
//   bits6    128 bytes: bits 2f, 2f + 1 of byte i of vector v are bits 4, 5 of quad 4v + f
//   bytes    512 bytes: quads 0 .. 7
//   pairs   1024 bytes: int16; vector j (j = 0 .. 15) is elements 2j, 2j + 1, [output][2]
//   halves    32 bytes: F16, one an output
//   floats    64 bytes: F32, one an output
// and with it
//   u4z  nibbles, scale            (q - 8) * scale        Q4_0
//   u4m  nibbles, scale, minimum   q * scale + minimum    Q4_1, Q4_K
//   u5z  nibbles, bits5, scale     (q - 16) * scale       Q5_0
//   u5m  nibbles, bits5, scale, minimum                   Q5_1, Q5_K
//   u6z  nibbles, bits6, scale of elements 0 .. 15, scale of 16 .. 31: (q - 32) * scale   Q6_K
//   u8z  bytes, scale              (q - 128) * scale      Q8_0
//   s14  pairs, scale in floats    q * scale              F16, BF16
// Scales and minima of K-quants are products of two numbers in the file, here rounded to F16 once.
// Codes of s14 are at most 8191, which the largest magnitude of an output's block becomes; a block
// with an infinity or a NaN is all NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backends/dtype.hpp"

namespace tessera::cpu {

enum class Packing : uint8_t { u4z, u4m, u5z, u5m, u6z, u8z, s14 };
inline constexpr uint32_t kPackings = 7;

// What a weight is multiplied with: rows as they are, or as codes with a scale a block.
enum class RowForm : uint8_t { fp32, int8, int16 };

inline constexpr uint32_t kGroupOutputs = 16;
inline constexpr uint32_t kBlock = 32;  // elements of K that share a scale

struct PackingInfo {
  uint32_t block_bytes;  // of 16 outputs x 32 elements
  RowForm rows;
};
inline constexpr PackingInfo kPackingInfo[kPackings] = {
    {288, RowForm::int8}, {320, RowForm::int8}, {352, RowForm::int8},   {384, RowForm::int8},
    {448, RowForm::int8}, {544, RowForm::int8}, {1088, RowForm::int16},
};

constexpr uint32_t packed_block_bytes(Packing packing) {
  return kPackingInfo[static_cast<size_t>(packing)].block_bytes;
}

constexpr RowForm row_form(Packing packing) {
  return kPackingInfo[static_cast<size_t>(packing)].rows;
}

// None for F32, which stays as it is.
std::optional<Packing> packing_of(DType type);

// Bytes of a packed weight; columns is a multiple of 32.
constexpr uint64_t packed_bytes(Packing packing, uint64_t rows, uint64_t columns) {
  return (rows + kGroupOutputs - 1) / kGroupOutputs * (columns / kBlock) *
         packed_block_bytes(packing);
}

// Packs `row_count` (at most 16) rows of GGUF blocks, row_stride bytes apart, to one group.
void pack_group(DType type, const uint8_t* rows, uint64_t row_stride, uint32_t row_count,
                uint32_t columns, uint8_t* out);

// Values of one output of a group: [columns].
void unpack_row(Packing packing, const uint8_t* group, uint32_t output, uint32_t columns,
                float* out);

}  // namespace tessera::cpu
