// Weights of the CPU: the GGUF blocks as they come, in memory of their own.
#pragma once

#include <memory>

#include "backends/backend.hpp"
#include "backends/cpu/host_memory.hpp"
#include "backends/cpu/kernels.hpp"

namespace tessera::cpu {

class CpuWeight final : public Weight {
 public:
  // Reads the weight in slices. Throws invalid_argument where the shape is wrong,
  // out_of_host_memory, and what the reader throws.
  CpuWeight(const WeightDesc& desc, const WeightReader& reader);

  uint64_t device_bytes() const override { return memory_.size(); }

  // Blocks of one row.
  const uint8_t* row(uint32_t index) const { return memory_.data() + index * row_bytes_; }

  // Exact values of one row: desc().columns floats.
  void dequantise_row(const Kernels& kernels, uint32_t index, float* out) const {
    kernels.dequantise[static_cast<size_t>(desc().type)](row(index), desc().columns, out);
  }

 private:
  HostMemory memory_;
  uint64_t row_bytes_;
};

}  // namespace tessera::cpu
