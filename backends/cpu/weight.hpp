// Weights of the CPU: packed for the integer kernels, or the GGUF blocks as they come.
#pragma once

#include <memory>
#include <optional>

#include "backends/backend.hpp"
#include "backends/cpu/arena.hpp"
#include "backends/cpu/kernels.hpp"
#include "backends/cpu/packing.hpp"

namespace tessera::cpu {

class CpuWeight final : public Weight {
 public:
  // Reads the weight in slices. Fast math packs weights of matmuls whose type can be packed, where
  // rows are whole blocks. Throws invalid_argument where the shape is wrong, out_of_host_memory,
  // and what the reader throws.
  CpuWeight(const WeightDesc& desc, const WeightReader& reader, MathMode math, Arena& arena);

  uint64_t device_bytes() const override { return memory_.bytes; }

  // None: blocks as in the file.
  std::optional<Packing> packing() const { return packing_; }
  // Packed: outputs 16 * index .. 16 * index + 15.
  const uint8_t* group(uint32_t index) const { return memory_.data + index * group_bytes_; }

  // Values of one row: desc().columns floats. Exact, but for F16, BF16 and K-quants that are
  // packed.
  void dequantise_row(const Kernels& kernels, uint32_t index, float* out) const;

 private:
  void read(const WeightReader& reader);
  void read_packed(const WeightReader& reader);

  std::optional<Packing> packing_;
  Arena::Slice memory_;
  uint64_t row_bytes_;        // of the file's blocks
  uint64_t group_bytes_ = 0;  // packed
};

}  // namespace tessera::cpu
