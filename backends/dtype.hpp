// Element types of weights and KV pages. Block formats follow GGUF: `block_elements` consecutive
// values of a row share `block_bytes` bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
};

struct DTypeInfo {
  const char* name;         // as GGUF tools print it: "Q4_1"
  uint32_t block_elements;  // values a block
  uint32_t block_bytes;     // bytes a block
};

// Indexed by DType.
inline constexpr DTypeInfo kDTypeInfo[] = {
    {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},     {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},   {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},
    {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
};
inline constexpr size_t kDTypeCount = sizeof(kDTypeInfo) / sizeof(kDTypeInfo[0]);

constexpr const DTypeInfo& dtype_info(DType type) {
  return kDTypeInfo[static_cast<size_t>(type)];
}

// Bytes of one row of `elements` values; `elements` is a multiple of the block.
constexpr uint64_t row_bytes(DType type, uint64_t elements) {
  const DTypeInfo& info = dtype_info(type);
  return elements / info.block_elements * info.block_bytes;
}

}  // namespace tessera
