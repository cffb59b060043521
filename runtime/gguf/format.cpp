#include "runtime/gguf/format.hpp"

#include <array>
#include <bit>
#include <limits>

namespace tessera::gguf {
namespace {

struct TypeEntry {
  uint32_t id;  // ggml_type
  std::string_view name;
  std::optional<DType> type = std::nullopt;
};

constexpr TypeEntry kTypes[] = {
    {0, "F32", DType::f32},
    {1, "F16", DType::f16},
    {2, "Q4_0", DType::q4_0},
    {3, "Q4_1", DType::q4_1},
    {6, "Q5_0", DType::q5_0},
    {7, "Q5_1", DType::q5_1},
    {8, "Q8_0", DType::q8_0},
    {12, "Q4_K", DType::q4_k},
    {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},
    {30, "BF16", DType::bf16},
    {4, "Q4_2"},
    {5, "Q4_3"},
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {36, "IQ4_NL_4_4"},
    {37, "IQ4_NL_4_8"},
    {38, "IQ4_NL_8_8"},
    {39, "MXFP4"},
    {40, "NVFP4"},
    {41, "Q1_0"},
};

}  // namespace

uint32_t type_id(DType type) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.type == type) return entry.id;
  }
  return std::numeric_limits<uint32_t>::max();  // unreachable: the table has every DType (test)
}

std::optional<DType> type_from_id(uint32_t id) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.id == id) return entry.type;
  }
  return std::nullopt;
}

std::string_view type_id_name(uint32_t id) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.id == id) return entry.name;
  }
  return {};
}

std::string supported_types() {
  std::string names;
  for (const DTypeInfo& info : kDTypeInfo) {
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
}

std::string check_shape(DType type, std::span<const uint64_t> shape, uint64_t& bytes) {
  if (shape.empty() || shape.size() > kMaxDimensions) {
    return "has " + std::to_string(shape.size()) + " dimensions; 1 to 4 are allowed";
  }
  const DTypeInfo& info = dtype_info(type);
  for (uint64_t length : shape) {
    if (length == 0) return "has a dimension of length 0; every length must be at least 1";
  }
  if (shape[0] % info.block_elements != 0) {
    return "has rows of " + std::to_string(shape[0]) + " values; " + info.name +
           " needs a multiple of " + std::to_string(info.block_elements);
  }
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  // Counted in blocks, so that neither the elements nor the bytes can wrap before they are checked.
  uint64_t product = shape[0] / info.block_elements;
  for (uint64_t factor : shape.subspan(1)) {
    if (product > kMax / factor) return "has a size that overflows 63 bits";
    product *= factor;
  }
  if (product > kMax / info.block_bytes || product > kMax / info.block_elements) {
    return "has a size that overflows 63 bits";
  }
  bytes = product * info.block_bytes;
  return {};
}

bool valid_alignment(uint64_t alignment) {
  return std::has_single_bit(alignment) && alignment <= kMaxAlignment;
}

std::string quoted(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  if (text.size() > kMaxShown) out += "...";
  return out + "'";
}

}  // namespace tessera::gguf
