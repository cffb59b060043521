#include "runtime/kv/prefix_cache.hpp"

#include <xxhash.h>

#include <algorithm>

namespace tessera::kv {
namespace {

uint64_t hash_of(const PrefixKey& key) {
  const uint64_t seed =
      key.parent * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(key.kind) + (key.canonical << 3);
  return XXH3_64bits_withSeed(key.tokens.data(), key.tokens.size_bytes(), seed);
}

bool matches(const PrefixNode& node, const PrefixKey& key) {
  return node.parent == key.parent && node.kind == key.kind && node.canonical == key.canonical &&
         std::ranges::equal(node.tokens, key.tokens);
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

PrefixNode* PrefixCache::insert(const PrefixKey& key, BlockRef block, bool exact,
                                uint32_t parent_depth, uint64_t now) {
  PrefixNode node;
  node.serial = ++last_serial_;
  node.parent = key.parent;
  node.kind = key.kind;
  node.canonical = key.canonical;
  node.tokens.assign(key.tokens.begin(), key.tokens.end());
  node.block = std::move(block);
  node.exact = exact;
  node.depth = parent_depth + 1;
  node.last_use = now;
  return &nodes_.emplace(hash_of(key), std::move(node))->second;
}

uint64_t PrefixCache::evictable_blocks() const {
  return static_cast<uint64_t>(std::ranges::count_if(
      nodes_, [](const auto& item) { return item.second.block && item.second.evictable(); }));
}

const PrefixNode* PrefixCache::oldest_evictable() const {
  const PrefixNode* best = nullptr;
  for (const auto& [hash, node] : nodes_) {
    if (!node.evictable()) continue;
    if (!best || node.last_use < best->last_use ||
        (node.last_use == best->last_use && node.depth > best->depth)) {
      best = &node;
    }
  }
  return best;
}

void PrefixCache::erase(uint64_t serial) {
  std::erase_if(nodes_, [&](const auto& item) { return item.second.serial == serial; });
}

}  // namespace tessera::kv
