// The fixed pages of one context and who holds them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backends/backend.hpp"

namespace tessera::kv {

class PagePool;

// Room for P consecutive tokens: one page of every layer group. Goes back to its pool when the last
// reference is dropped. Shared blocks are full or closed and are never written again.
class Block {
 public:
  Block(PagePool& pool, std::vector<uint32_t> pages) : pool_(pool), pages_(std::move(pages)) {}
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint32_t page(uint32_t group) const { return pages_[group]; }
  bool in_run = false;  // a prefix run has it; a block is never in two

 private:
  friend class PagePool;
  PagePool& pool_;
  std::vector<uint32_t> pages_;  // by layer group
};

using BlockRef = std::shared_ptr<Block>;

// Not thread-safe: the context's lock guards it and all its blocks. Blocks must not outlive it.
class PagePool {
 public:
  // As many blocks as fit `budget` bytes. Throws capacity, with numbers, when that is none.
  PagePool(Backend& backend, KvLayout layout, uint64_t budget);

  // Null when every block is in use.
  BlockRef try_allocate();

  uint32_t page_slots() const { return layout_.page_slots; }  // tokens a block
  uint64_t block_bytes() const { return block_bytes_; }
  uint64_t total() const { return total_; }  // blocks, likewise below
  uint64_t free() const { return total_ - used_; }
  uint64_t used() const { return used_; }
  uint64_t peak() const { return peak_; }
  uint64_t blocks_for(uint64_t tokens) const {
    return (tokens + layout_.page_slots - 1) / layout_.page_slots;
  }
  const KvLayout& layout() const { return layout_; }
  PageMemory& memory() { return *memory_; }

 private:
  friend class Block;
  void give_back(std::vector<uint32_t>& pages) noexcept;

  KvLayout layout_;
  uint64_t block_bytes_ = 0;
  uint64_t total_ = 0;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
  std::unique_ptr<PageMemory> memory_;
  std::vector<std::vector<uint32_t>> free_;  // by group; a stack with room for all pages
};

}  // namespace tessera::kv
