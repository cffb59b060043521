// What reader and writer share about the file format. Internal to runtime/gguf.
//
//   "GGUF", u32 version, u64 tensor count, u64 key count
//   keys:    string name, u32 ValueType, value     (string: u64 length, bytes, no terminator;
//                                                   array: u32 ValueType, u64 count, elements)
//   tensors: string name, u32 dimensions, u64 each (row length first), u32 type, u64 offset
//   padding to general.alignment; tensor offsets count from here and are aligned too
//
// All numbers are little endian. Source: the public GGUF specification (ggml, docs/gguf.md).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "backends/dtype.hpp"

namespace tessera::gguf {

inline constexpr uint32_t kMagic = 0x46554747;  // "GGUF" read as a little-endian u32
inline constexpr uint32_t kMinVersion = 2;
inline constexpr uint32_t kMaxVersion = 3;

// Limits. The specification sets the first four; the others keep a hostile file from making the
// reader allocate without bound (real headers, vocabulary included, stay below 32 MiB).
inline constexpr uint64_t kMaxKeyBytes = 65535;
inline constexpr uint64_t kMaxTensorNameBytes = 64;
inline constexpr uint32_t kMaxDimensions = 4;
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;
inline constexpr uint64_t kMaxHeaderBytes = uint64_t{1} << 28;  // keys and tensor table
inline constexpr uint64_t kMaxKeys = uint64_t{1} << 16;
inline constexpr uint64_t kMaxTensors = uint64_t{1} << 18;

inline constexpr std::string_view kAlignmentKey = "general.alignment";

// ggml's number for a type and back. Nothing when ggml has the type and this project does not.
uint32_t type_id(DType type);
std::optional<DType> type_from_id(uint32_t id);
// ggml's name, also for types that are not supported; empty when the number is unknown.
std::string_view type_id_name(uint32_t id);
// "F32, F16, ...": for messages.
std::string supported_types();

// Bytes of a tensor of `shape` (row length first). Returns an empty string and sets `bytes`, or
// says what is wrong with the shape: 1 to 4 dimensions, none zero, fewer than 2^63 bytes, rows of
// whole blocks.
std::string check_shape(DType type, std::span<const uint64_t> shape, uint64_t& bytes);

bool valid_alignment(uint64_t alignment);  // a power of two up to kMaxAlignment
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Text from a file in a message: 'name', control bytes as \xNN, cut at 80 bytes.
std::string quoted(std::string_view text);

}  // namespace tessera::gguf
