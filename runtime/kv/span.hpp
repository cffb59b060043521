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

  // Makes slots [slots, slots + count) valid; their blocks are there already.
  void extend(uint32_t count, uint32_t page_slots) {
    for (uint32_t i = 0; i < count; ++i, ++slots) {
      masks[slots / page_slots] |= uint64_t{1} << (slots % page_slots);
    }
  }
  // Takes in a block of which the first `filled` slots are valid. Only behind full blocks.
  void append(BlockRef block, uint32_t filled) {
    masks.resize(blocks.size());
    masks.push_back(filled == 64 ? ~uint64_t{0} : (uint64_t{1} << filled) - 1);
    blocks.push_back(std::move(block));
    slots += filled;
  }
};

}  // namespace tessera::kv
