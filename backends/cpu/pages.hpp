// KV pages in host memory. A page is [layer in group][K, V][kv head] planes of P slots:
//   K  [head_dim][slot], so that scores of consecutive slots are computed side by side
//   V  [slot][head_dim]
// Q8_0: int8 codes in that order, then the F16 scales of blocks of 32 dimensions in the same order,
// K [head_dim / 32][slot], V [slot][head_dim / 32].
#pragma once

#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/host_memory.hpp"
#include "backends/cpu/thread_pool.hpp"

namespace tessera::cpu {

// Bytes of `head_dim` values of a type.
uint64_t head_bytes(KvType type, uint32_t head_dim);

// Bytes of a page. Throws invalid_argument (layout), unsupported (Q8_0 of an odd head_dim).
uint64_t page_bytes(const KvLayout& layout, uint32_t group);

std::string page_layout_name(const KvLayout& layout);

class CpuPages final : public PageMemory {
 public:
  CpuPages(const KvLayout& layout, std::span<const uint32_t> page_counts);

  uint8_t* host(uint32_t group, uint32_t index) noexcept override { return page(group, index); }
  void read(uint32_t group, uint32_t page, void* out) override;
  void write(uint32_t group, uint32_t page, const void* in) override;
  void copy(uint32_t group, uint32_t from, uint32_t to) override;

  const KvLayout& layout() const { return layout_; }
  const std::vector<uint32_t>& page_counts() const { return page_counts_; }

  // Where a model layer's KV lies: its group, and the byte offset of its first K within a page.
  struct LayerPlace {
    uint32_t group;
    uint64_t offset;
  };
  // Throws invalid_argument where no group has the layer.
  LayerPlace place(uint32_t layer) const;

  uint8_t* page(uint32_t group, uint32_t index) const {
    return groups_[group].memory.data() + index * groups_[group].page_bytes;
  }

  // The threads of the programs over these pages, which run one at a time.
  ThreadPool& pool() { return pool_; }

 private:
  struct Group {
    HostMemory memory;
    uint64_t page_bytes;
  };
  uint8_t* checked_page(uint32_t group, uint32_t page) const;

  KvLayout layout_;
  std::vector<uint32_t> page_counts_;
  std::vector<Group> groups_;
  ThreadPool pool_;
};

}  // namespace tessera::cpu
