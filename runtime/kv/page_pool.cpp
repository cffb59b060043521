#include "runtime/kv/page_pool.hpp"

#include <algorithm>
#include <string>

namespace tessera::kv {
namespace {

constexpr uint64_t kMaxBlocks = 1u << 28;  // page numbers are 32 bits, with room to spare

}  // namespace

Block::~Block() {
  pool_.give_back(pages_);
}

uint64_t Block::bytes() const {
  return pool_.block_bytes();
}

PagePool::PagePool(Backend& backend, KvLayout layout, uint64_t budget)
    : layout_(std::move(layout)) {
  if (layout_.groups.empty()) fail(Status::invalid_argument, "the KV layout has no layer group");
  for (uint32_t g = 0; g < layout_.groups.size(); ++g) {
    page_bytes_.push_back(backend.page_bytes(layout_, g));
    block_bytes_ += page_bytes_.back();
  }
  total_ = std::min(budget / block_bytes_, kMaxBlocks);
  if (total_ == 0) {
    fail(Status::capacity, "kv_budget is " + std::to_string(budget) + " bytes; one page of " +
                               std::to_string(layout_.page_slots) + " tokens takes " +
                               std::to_string(block_bytes_));
  }
  const std::vector<uint32_t> counts(layout_.groups.size(), static_cast<uint32_t>(total_));
  memory_ = backend.create_pages(layout_, counts);
  free_.resize(counts.size());
  for (std::vector<uint32_t>& pages : free_) {
    pages.resize(total_);
    for (uint64_t i = 0; i < total_; ++i) pages[i] = static_cast<uint32_t>(total_ - 1 - i);
  }
}

BlockRef PagePool::try_allocate() {
  if (used_ == total_) return nullptr;
  std::vector<uint32_t> pages(free_.size());
  for (size_t g = 0; g < free_.size(); ++g) pages[g] = free_[g].back();
  BlockRef block(new Block(*this, std::move(pages)));
  for (std::vector<uint32_t>& pages_of_group : free_) pages_of_group.pop_back();
  ++used_;
  peak_ = std::max(peak_, used_);
  return block;
}

std::vector<std::span<uint8_t>> PagePool::host_pages(std::span<const BlockRef> blocks) const {
  std::vector<std::span<uint8_t>> pages;
  pages.reserve(blocks.size() * page_bytes_.size());
  for (const BlockRef& block : blocks) {
    for (uint32_t g = 0; g < page_bytes_.size(); ++g) {
      uint8_t* const page = memory_->host(g, block->page(g));
      if (!page) return {};
      pages.emplace_back(page, page_bytes_[g]);
    }
  }
  return pages;
}

void PagePool::read(const Block& block, uint8_t* out) const {
  for (uint32_t g = 0; g < page_bytes_.size(); ++g) {
    memory_->read(g, block.page(g), out);
    out += page_bytes_[g];
  }
}

void PagePool::write(const Block& block, const uint8_t* from) {
  for (uint32_t g = 0; g < page_bytes_.size(); ++g) {
    memory_->write(g, block.page(g), from);
    from += page_bytes_[g];
  }
}

void PagePool::give_back(std::vector<uint32_t>& pages) noexcept {
  // Capacity was set when the pool was made, so this does not allocate.
  for (size_t g = 0; g < free_.size(); ++g) free_[g].push_back(pages[g]);
  --used_;
}

}  // namespace tessera::kv
