// A page pool on the CPU for the tests of this folder.
#pragma once

#include <memory>
#include <vector>

#include "backends/registry.hpp"
#include "runtime/kv/page_pool.hpp"

namespace tessera::kv::test {

// Groups of different shapes, so that their pages differ in size.
inline KvLayout layout_of(uint32_t page_slots, uint32_t groups) {
  KvLayout layout;
  layout.type = KvType::f16;
  layout.page_slots = page_slots;
  for (uint32_t g = 0; g < groups; ++g) layout.groups.push_back({{g}, 1 + g, 16, 0});
  return layout;
}

// K and V, two bytes each, of 16 dimensions a head; group g has one layer of 1 + g heads.
inline uint64_t block_bytes_of(uint32_t page_slots, uint32_t groups) {
  uint64_t bytes = 0;
  for (uint32_t g = 0; g < groups; ++g) bytes += uint64_t{2} * 2 * 16 * (1 + g) * page_slots;
  return bytes;
}

struct Pool {
  explicit Pool(uint64_t blocks, uint32_t page_slots = 16, uint32_t groups = 1)
      : backend(open_device("cpu", {})),
        pool(*backend, layout_of(page_slots, groups), blocks * block_bytes_of(page_slots, groups)) {
  }
  PagePool* operator->() { return &pool; }

  std::unique_ptr<Backend> backend;
  PagePool pool;
};

inline std::vector<BlockRef> blocks_of(Pool& pool, uint64_t count) {
  std::vector<BlockRef> blocks;
  for (uint64_t i = 0; i < count; ++i) blocks.push_back(pool->try_allocate());
  return blocks;
}

}  // namespace tessera::kv::test
