// A look inside a context at rest, for what applications neither need nor may do.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// Holds the context's lock. Nothing runs in the context meanwhile.
class ContextProbe {
 public:
  explicit ContextProbe(Context& context) : context_(context), guard_(context.lock_) {}

  // The next prompt finds the anchor and chunks, and nothing that was computed in place.
  void forget_prefix_runs() noexcept {
    while (kv::PrefixNode* node = context_.prefixes_.cheapest()) context_.prefixes_.evict(*node);
  }

  const KvLayout& layout() const { return context_.pool_->layout(); }
  uint64_t block_bytes() const { return context_.pool_->block_bytes(); }
  uint64_t blocks_for(uint64_t tokens) const { return context_.pool_->blocks_for(tokens); }
  // Of the first layer group.
  std::vector<uint8_t> bytes(const kv::Block& block) {
    std::vector<uint8_t> page(context_.model_->backend().page_bytes(layout(), 0));
    context_.pool_->memory().read(0, block.page(0), page.data());
    return page;
  }

 private:
  Context& context_;
  std::lock_guard<std::mutex> guard_;
};

}  // namespace tessera::engine
