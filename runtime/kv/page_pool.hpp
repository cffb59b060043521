// The fixed pages of one context and who holds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backends/backend.hpp"

namespace tessera::kv {

class BlockRef;
class PagePool;

// Told by a block that a cache holds.
class BlockWatcher {
 public:
  // Somebody beside the cache holds the block by now, or nobody any more.
  virtual void block_used(bool used) noexcept = 0;

 protected:
  ~BlockWatcher() = default;
};

// Room for P consecutive tokens: one page of every layer group. Goes back to its pool when the last
// reference is dropped. Shared blocks are full or closed and are never written again.
class Block {
 public:
  Block(PagePool& pool, std::vector<uint32_t> pages) : pool_(pool), pages_(std::move(pages)) {}
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  uint32_t page(uint32_t group) const { return pages_[group]; }
  uint64_t bytes() const;

  // Of the one cache that holds a reference; null: of none.
  BlockWatcher* watcher() const { return watcher_; }
  void set_watcher(BlockWatcher* watcher) noexcept { watcher_ = watcher; }

 private:
  friend class BlockRef;
  friend class PagePool;
  PagePool& pool_;
  std::vector<uint32_t> pages_;  // by layer group
  BlockWatcher* watcher_ = nullptr;
  uint32_t references_ = 0;
};

// A counted reference. Not thread-safe, as the pool is not.
class BlockRef {
 public:
  BlockRef(std::nullptr_t = nullptr) noexcept {}
  explicit BlockRef(Block* block) noexcept : block_(block) { take(); }
  BlockRef(const BlockRef& other) noexcept : block_(other.block_) { take(); }
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() { drop(); }

  void reset() noexcept { *this = nullptr; }
  Block* get() const { return block_; }
  Block* operator->() const { return block_; }
  Block& operator*() const { return *block_; }
  explicit operator bool() const { return block_ != nullptr; }
  bool operator==(const BlockRef&) const = default;
  uint32_t use_count() const { return block_ ? block_->references_ : 0; }

 private:
  void take() noexcept {
    if (block_ && ++block_->references_ == 2 && block_->watcher_)
      block_->watcher_->block_used(true);
  }
  void drop() noexcept {
    if (!block_) return;
    if (--block_->references_ == 0) {
      delete block_;
    } else if (block_->references_ == 1 && block_->watcher_) {
      block_->watcher_->block_used(false);
    }
  }

  Block* block_ = nullptr;
};

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
  // Where the pages of `blocks` lie in this process, block by block and group by group; none where
  // they do not. They may be used beside steps that do not see them.
  std::vector<std::span<uint8_t>> host_pages(std::span<const BlockRef> blocks) const;
  // The block's pages, group by group: block_bytes() bytes. These need no lock, but no step may be
  // under way.
  void read(const Block& block, uint8_t* out) const;
  void write(const Block& block, const uint8_t* from);

 private:
  friend class Block;
  void give_back(std::vector<uint32_t>& pages) noexcept;

  KvLayout layout_;
  std::vector<uint64_t> page_bytes_;  // by group
  uint64_t block_bytes_ = 0;
  uint64_t total_ = 0;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
  std::unique_ptr<PageMemory> memory_;
  std::vector<std::vector<uint32_t>> free_;  // by group; a stack with room for all pages
};

}  // namespace tessera::kv
