#include "backends/cpu/kv_tile.hpp"

#include <cstring>

namespace tessera::cpu {

KvPlanes::KvPlanes(const CpuPages& pages, const CpuPages::LayerPlace& place, uint32_t kv_heads,
                   uint32_t head_dim)
    : pages_(pages),
      place_(place),
      kv_heads_(kv_heads),
      head_dim_(head_dim),
      head_bytes_(head_bytes(pages.layout().type, head_dim)) {}

size_t KvPlanes::scratch_floats() const {
  const bool small = pages_.layout().page_slots < kGroupSlots;
  return small ? (size_t{kTileSlots} * head_bytes_ + sizeof(float) - 1) / sizeof(float) : 0;
}

KvTile KvPlanes::tile(const Plan& plan, const SpanEntry& span, uint32_t first, uint32_t count,
                      uint32_t kv_head, bool values, float* scratch) const {
  const uint32_t page_slots = plan.page_slots();
  const uint64_t plane = (uint64_t{values} * kv_heads_ + kv_head) * page_slots * head_bytes_;
  const std::vector<uint32_t>& table = plan.step().page_tables[place_.group];
  const auto plane_of = [&](uint32_t slot) -> const uint8_t* {
    const uint32_t page = table[span.first_entry + slot / page_slots];
    return pages_.page(place_.group, page) + place_.offset + plane;
  };
  KvTile tile = {};
  tile.groups = (count + kGroupSlots - 1) / kGroupSlots;
  if (page_slots >= kGroupSlots) {
    tile.plane_slots = page_slots;
    for (uint32_t g = 0; g < tile.groups; ++g) {
      const uint32_t slot = first + g * kGroupSlots;
      tile.planes[g] = plane_of(slot);
      tile.first[g] = slot % page_slots;
    }
    return tile;
  }
  tile.plane_slots = kGroupSlots;
  uint8_t* joined = reinterpret_cast<uint8_t*>(scratch);
  for (uint32_t g = 0; g < tile.groups; ++g, joined += kGroupSlots * head_bytes_) {
    const uint32_t slot = first + g * kGroupSlots;
    const bool has_high = g * kGroupSlots + page_slots < count;
    join(plane_of(slot), has_high ? plane_of(slot + page_slots) : nullptr, values, joined);
    tile.planes[g] = joined;
  }
  return tile;
}

// Two planes of 8 slots as one of 16. Each array of a plane is rows of `row` bytes a plane, keys a
// row for each dimension or block, values one row; the rows of the two planes alternate.
void KvPlanes::join(const uint8_t* low, const uint8_t* high, bool values, uint8_t* out) const {
  const auto array = [&](size_t rows, size_t row) {
    for (size_t r = 0; r < rows; ++r, out += 2 * row) {
      std::memcpy(out, low, row);
      low += row;
      if (high) {
        std::memcpy(out + row, high, row);
        high += row;
      } else {
        std::memset(out + row, 0, row);
      }
    }
  };
  const size_t slots = pages_.layout().page_slots;
  const auto elements = [&](size_t count, size_t bytes) {
    values ? array(1, slots * count * bytes) : array(count, slots * bytes);
  };
  switch (pages_.layout().type) {
    case KvType::f32:
      return elements(head_dim_, 4);
    case KvType::f16:
      return elements(head_dim_, 2);
    case KvType::q8_0:
      elements(head_dim_, 1);
      elements(head_dim_ / 32, 2);
  }
}

}  // namespace tessera::cpu
