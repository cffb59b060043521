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

CpuWeight::CpuWeight(const WeightDesc& desc, const WeightReader& reader, MathMode math,
                     Arena& arena)
    : Weight(desc), row_bytes_(0) {
  const std::string what = "weight '" + desc.name + "'";
  const uint64_t bytes = checked_size(desc);
  row_bytes_ = tessera::row_bytes(desc.type, desc.columns);
  if (math == MathMode::fast && (desc.uses & kUseMatmul) && desc.rows > 1 &&
      desc.columns % kBlock == 0) {
    packing_ = packing_of(desc.type);
  }
  if (packing_) {
    group_bytes_ = packed_bytes(*packing_, kGroupOutputs, desc.columns);
    const uint64_t groups = (uint64_t{desc.rows} + kGroupOutputs - 1) / kGroupOutputs;
    memory_ = arena.allocate(checked_multiply(groups, group_bytes_, what), what);
    read_packed(reader);
  } else {
    memory_ = arena.allocate(bytes, what);
    read(reader);
  }
}

void CpuWeight::read(const WeightReader& reader) {
  for (uint64_t offset = 0; offset < memory_.bytes; offset += kSlice) {
    reader(offset, memory_.data + offset, std::min(kSlice, memory_.bytes - offset));
  }
}

void CpuWeight::read_packed(const WeightReader& reader) {
  const uint64_t group_rows_bytes = kGroupOutputs * row_bytes_;
  const uint64_t groups_a_slice = std::max<uint64_t>(1, kSlice / group_rows_bytes);
  const HostMemory slice(groups_a_slice * group_rows_bytes, "weight '" + desc().name + "'");
  uint8_t* out = memory_.data;
  for (uint64_t row = 0; row < desc().rows; row += groups_a_slice * kGroupOutputs) {
    const uint64_t rows = std::min(groups_a_slice * kGroupOutputs, desc().rows - row);
    reader(row * row_bytes_, slice.data(), rows * row_bytes_);
    for (uint64_t r = 0; r < rows; r += kGroupOutputs, out += group_bytes_) {
      const auto count = static_cast<uint32_t>(std::min<uint64_t>(kGroupOutputs, rows - r));
      pack_group(desc().type, slice.data() + r * row_bytes_, row_bytes_, count, desc().columns,
                 out);
    }
  }
}

void CpuWeight::dequantise_row(const Kernels& kernels, uint32_t index, float* out) const {
  if (packing_) {
    unpack_row(*packing_, group(index / kGroupOutputs), index % kGroupOutputs, desc().columns, out);
  } else {
    kernels.dequantise[static_cast<size_t>(desc().type)](memory_.data + index * row_bytes_,
                                                         desc().columns, out);
  }
}

}  // namespace tessera::cpu
