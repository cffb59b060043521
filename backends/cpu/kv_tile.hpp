// Where the slots of one attention tile lie in the pages of a step.
#pragma once

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/pages.hpp"
#include "backends/cpu/plan.hpp"

namespace tessera::cpu {

// Finds the planes of one layer and KV head.
class KvPlanes {
 public:
  KvPlanes(const CpuPages& pages, const CpuPages::LayerPlace& place, uint32_t kv_heads,
           uint32_t head_dim);

  // Floats of scratch for `tile`: pages of 8 slots are put together there.
  size_t scratch_floats() const;
  // Tiles are where the pages are.
  bool direct() const { return pages_.layout().page_slots >= kGroupSlots; }

  // The groups that hold slots first .. first + count - 1 (at most a tile) of a span, keys or
  // values. `scratch` must last as long as the result.
  KvTile tile(const Plan& plan, const SpanEntry& span, uint32_t first, uint32_t count,
              uint32_t kv_head, bool values, float* scratch) const;

 private:
  void join(const uint8_t* low, const uint8_t* high, bool values, uint8_t* out) const;

  const CpuPages& pages_;
  CpuPages::LayerPlace place_;
  uint32_t kv_heads_;
  uint32_t head_dim_;
  uint64_t head_bytes_;
};

}  // namespace tessera::cpu
