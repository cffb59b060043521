#include "runtime/kv/prefix_cache.hpp"

#include <xxhash.h>

#include <algorithm>
#include <tuple>

#include "runtime/kv/hash_mask.hpp"

namespace tessera::kv {
namespace {

uint64_t hash_of(const PrefixKey& key) {
  const uint64_t parent = key.parent ? key.parent->serial : 0;
  const uint64_t seed = parent * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(key.kind) +
                        (key.canonical << 3) + (uint64_t{key.hidden} << 40);
  return masked(XXH3_64bits_withSeed(key.tokens.data(), key.tokens.size_bytes(), seed));
}

bool matches(const PrefixNode& node, const PrefixKey& key) {
  return node.parent == key.parent && node.kind == key.kind && node.canonical == key.canonical &&
         node.hidden == key.hidden && std::ranges::equal(node.tokens, key.tokens);
}

}  // namespace

PrefixNode::PrefixNode(PrefixCache& owner, const PrefixKey& key, std::vector<int32_t> text,
                       BlockRef kv) noexcept
    : cache(owner),
      parent(key.parent),
      kind(key.kind),
      canonical(key.canonical),
      hidden(key.hidden),
      tokens(std::move(text)),
      block(std::move(kv)) {
  if (block) block->set_watcher(this);
}

PrefixNode::~PrefixNode() {
  if (block) block->set_watcher(nullptr);
}

void PrefixNode::block_used(bool used) noexcept {
  cache.evictable_blocks_ += used ? uint64_t{0} - 1 : 1;
  if (!used) cache.rule_.used(*this);
  cache.settle(*this);
}

PrefixNode* PrefixCache::find(const PrefixKey& key) {
  const auto [first, last] = nodes_.equal_range(hash_of(key));
  for (auto it = first; it != last; ++it) {
    if (matches(it->second, key)) return &it->second;
  }
  return nullptr;
}

PrefixNode* PrefixCache::insert(const PrefixKey& key, BlockRef block) {
  if (block && block->watcher()) {
    fail(Status::internal, "a page would stand in two places of the prefix tree");
  }
  const uint64_t hash = hash_of(key);
  std::vector<int32_t> tokens(key.tokens.begin(), key.tokens.end());
  queue_.make_room(nodes_.size() + 1);
  const auto it =
      nodes_.emplace(std::piecewise_construct, std::forward_as_tuple(hash),
                     std::forward_as_tuple(*this, key, std::move(tokens), std::move(block)));
  PrefixNode& node = it->second;
  const uint64_t depth = key.parent ? key.parent->end : 0;
  node.serial = ++last_serial_;
  node.hash = hash;
  node.end = depth + (node.block ? node.tokens.size() : key.length);
  if (node.parent) hold(*node.parent);
  if (node.block) {
    node.cost = rule_.work().of(node.tokens.size(), depth);
    node.bytes = node.block->bytes();
    rule_.used(node);
    evictable_blocks_ += node.unused();
    settle(node);
  }
  return &node;
}

// Brings the queue up to date with the node.
void PrefixCache::settle(PrefixNode& node) noexcept {
  if (node.evictable() == node.queued()) return;
  node.queued() ? queue_.remove(node) : queue_.push(node);
}

void PrefixCache::hold(PrefixNode& node) noexcept {
  ++node.holders;
  settle(node);
}

void PrefixCache::let_go(PrefixNode& node) noexcept {
  --node.holders;
  if (node.holders == 0 && !node.block) {
    erase(node);
  } else {
    settle(node);
  }
}

void PrefixCache::evict(PrefixNode& node) noexcept {
  rule_.given_up(node);
  erase(node);
}

// And the nodes without blocks before it that nothing else needs.
void PrefixCache::erase(PrefixNode& node) noexcept {
  for (PrefixNode* gone = &node; gone;) {
    PrefixNode* parent = gone->parent;
    unlink(*gone);
    if (!parent) return;
    --parent->holders;
    settle(*parent);
    gone = parent->holders == 0 && !parent->block ? parent : nullptr;
  }
}

void PrefixCache::unlink(PrefixNode& node) noexcept {
  if (node.queued()) queue_.remove(node);
  evictable_blocks_ -= node.unused();
  const auto [first, last] = nodes_.equal_range(node.hash);
  for (auto it = first; it != last; ++it) {
    if (&it->second != &node) continue;
    nodes_.erase(it);
    return;
  }
}

}  // namespace tessera::kv
