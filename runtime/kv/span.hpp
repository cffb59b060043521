// A run of KV slots of one piece of a session's context.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/kv/page_pool.hpp"

namespace tessera::kv {

// Slot i lies in blocks[i / P] at i % P. Its logical position is positions[i], or logical_start + i
// where `positions` is empty; its key is rotated by (logical position - frame_start).
struct Span {
  std::vector<BlockRef> blocks;
  std::vector<uint64_t> masks;  // of blocks: bit s set = slot s is valid
  uint32_t slots = 0;           // slots looked at, hidden ones included
  int32_t logical_start = 0;
  int32_t frame_start = 0;
  std::vector<int32_t> positions;

  int32_t position(uint32_t slot) const {
    return positions.empty() ? logical_start + static_cast<int32_t>(slot) : positions[slot];
  }
  // Makes slots [slots, slots + count) valid; their blocks are there already.
  void extend(uint32_t count, uint32_t page_slots) noexcept {
    for (uint32_t i = 0; i < count; ++i, ++slots) {
      masks[slots / page_slots] |= uint64_t{1} << (slots % page_slots);
    }
  }
  bool valid(uint32_t slot, uint32_t page_slots) const {
    return masks[slot / page_slots] >> (slot % page_slots) & 1;
  }
  void hide(uint32_t slot, uint32_t page_slots) noexcept {
    masks[slot / page_slots] &= ~(uint64_t{1} << (slot % page_slots));
  }
  void show(uint32_t slot, uint32_t page_slots) noexcept {
    masks[slot / page_slots] |= uint64_t{1} << (slot % page_slots);
  }
  // Takes back the slots behind the first `left`; their blocks stay. Of slots that were filled in
  // order.
  void empty_behind(uint32_t left, uint32_t page_slots) noexcept {
    while (slots > left) hide(--slots, page_slots);
  }
  // Room for `count` more blocks, so that taking them in cannot fail.
  void reserve(size_t count) {
    blocks.reserve(blocks.size() + count);
    masks.reserve(masks.size() + count);
  }
  // Takes in a block of which the first `filled` slots (at most 64) are valid, or none yet. Only
  // behind full blocks. If it throws, nothing changed.
  void append(BlockRef block, uint32_t filled) {
    if (blocks.size() == blocks.capacity()) blocks.reserve(2 * blocks.size() + 1);
    masks.push_back(filled == 64 ? ~uint64_t{0} : (uint64_t{1} << filled) - 1);
    blocks.push_back(std::move(block));
    slots += filled;
  }
  // Gives up all blocks behind the first `count`, and the slots behind the first `left`.
  void shrink(size_t count, uint32_t left) noexcept {
    blocks.resize(count);
    masks.resize(count);
    slots = left;
  }
};

}  // namespace tessera::kv
