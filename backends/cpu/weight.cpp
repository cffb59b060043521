#include "backends/cpu/weight.hpp"

#include <algorithm>

namespace tessera::cpu {
namespace {

constexpr uint64_t kSlice = 1 << 20;  // bytes a read

uint64_t checked_size(const WeightDesc& desc) {
  const std::string what = "weight '" + desc.name + "'";
  if (static_cast<size_t>(desc.type) >= kDTypeCount) {
    fail(Status::invalid_argument, what + ": unknown element type");
  }
  if (desc.rows == 0 || desc.columns == 0) {
    fail(Status::invalid_argument, what + ": has no elements; rows and columns must be positive");
  }
  const DTypeInfo& type = dtype_info(desc.type);
  if (desc.columns % type.block_elements != 0) {
    fail(Status::invalid_argument,
         what + ": " + std::to_string(desc.columns) + " columns are not a multiple of the " +
             std::to_string(type.block_elements) + " of a " + type.name + " block");
  }
  return checked_multiply(desc.rows, row_bytes(desc.type, desc.columns), what);
}

}  // namespace

CpuWeight::CpuWeight(const WeightDesc& desc, const WeightReader& reader)
    : Weight(desc),
      memory_(checked_size(desc), "weight '" + desc.name + "'"),
      row_bytes_(tessera::row_bytes(desc.type, desc.columns)) {
  for (uint64_t offset = 0; offset < memory_.size(); offset += kSlice) {
    reader(offset, memory_.data() + offset, std::min(kSlice, memory_.size() - offset));
  }
}

}  // namespace tessera::cpu
