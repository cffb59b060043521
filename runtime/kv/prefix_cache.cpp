#include "runtime/kv/prefix_cache.hpp"

#include <xxhash.h>

#include <algorithm>

namespace tessera::kv {
namespace {

uint64_t hash_of(const PrefixKey& key) {
  const uint64_t parent = key.parent ? key.parent->serial : 0;
  const uint64_t seed = parent * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(key.kind) +
                        (key.canonical << 3) + (uint64_t{key.hidden} << 40);
  return XXH3_64bits_withSeed(key.tokens.data(), key.tokens.size_bytes(), seed);
}

bool matches(const PrefixNode& node, const PrefixKey& key) {
  return node.parent == key.parent && node.kind == key.kind && node.canonical == key.canonical &&
         node.hidden == key.hidden && std::ranges::equal(node.tokens, key.tokens);
}

}  // namespace

PrefixNode* PrefixCache::find(const PrefixKey& key, uint64_t now) {
  const auto [first, last] = nodes_.equal_range(hash_of(key));
  for (auto it = first; it != last; ++it) {
    if (matches(it->second, key)) {
      it->second.last_use = now;
      return &it->second;
    }
  }
  return nullptr;
}

PrefixNode* PrefixCache::insert(const PrefixKey& key, BlockRef block, uint64_t now) {
  PrefixNode node;
  node.serial = ++last_serial_;
  node.parent = key.parent;
  node.kind = key.kind;
  node.canonical = key.canonical;
  node.hidden = key.hidden;
  node.tokens.assign(key.tokens.begin(), key.tokens.end());
  node.block = std::move(block);
  node.last_use = now;
  node.hash = hash_of(key);
  PrefixNode* added = &nodes_.emplace(node.hash, std::move(node))->second;
  if (added->parent) ++added->parent->holders;
  if (added->block) added->block->in_run = true;
  return added;
}

uint64_t PrefixCache::evictable_blocks() const {
  return static_cast<uint64_t>(std::ranges::count_if(nodes_, [](const auto& item) {
    return item.second.block && item.second.block.use_count() == 1;
  }));
}

const PrefixNode* PrefixCache::oldest_evictable() const {
  const PrefixNode* best = nullptr;
  for (const auto& [hash, node] : nodes_) {
    if (node.evictable() && (!best || node.last_use < best->last_use)) best = &node;
  }
  return best;
}

void PrefixCache::erase(const PrefixNode& node) noexcept {
  const auto [first, last] = nodes_.equal_range(node.hash);
  for (auto it = first; it != last; ++it) {
    if (&it->second != &node) continue;
    if (node.parent) --node.parent->holders;
    nodes_.erase(it);
    return;
  }
}

}  // namespace tessera::kv
