// Prefix runs: KV of session text, found again by later prompts that begin the same way. A tree
// whose edges are blocks of tokens or shared chunks; a path from the root names everything that
// stands before a block, tokens and provenance alike, so KV computed behind approximate content is
// found only behind the very same content.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/kv/page_pool.hpp"

namespace tessera::kv {

enum class PrefixKind : uint8_t {
  text,         // a block of session text, frame 0
  chunk_first,  // the first block of a chunk that was computed in place, in the chunk's frame
  chunk_next,   // a further block of it
  shared,       // a canonical text used as encoded; no block of its own
};

struct PrefixNode {
  uint64_t serial = 0;           // never 0, never used twice
  PrefixNode* parent = nullptr;  // null: the root
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;
  uint32_t hidden = 0;
  std::vector<int32_t> tokens;
  BlockRef block;        // null for shared
  uint32_t holders = 0;  // children, and sessions whose context has come just this far
  uint64_t last_use = 0;
  uint64_t hash = 0;  // of its key

  bool evictable() const { return holders == 0 && (!block || block.use_count() == 1); }
};

struct PrefixKey {
  PrefixNode* parent = nullptr;  // the node before it; null: the root
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;           // shared: serial of the canonical text
  uint32_t hidden = 0;              // shared: its first tokens, which were computed in place
  std::span<const int32_t> tokens;  // others: the tokens in the block; fewer than P only where the
                                    // piece of context ends
};

// Guarded by the context's lock. A node stays where it is until it is erased, which happens only to
// nodes without holders: no path is ever cut.
class PrefixCache {
 public:
  // Null when unknown. Marks the node as used at `now`.
  PrefixNode* find(const PrefixKey& key, uint64_t now);
  // Adds a node; `key` must not be known. If it throws, nothing was added.
  PrefixNode* insert(const PrefixKey& key, BlockRef block, uint64_t now);

  // Blocks that only the cache holds: what erasing one evictable node after the other gives back,
  // since whoever holds a node's block holds the blocks before it too.
  uint64_t evictable_blocks() const;
  // The node to give up first: the longest unused of those that nothing stands behind. Null when
  // there is none. It may hold no block.
  const PrefixNode* oldest_evictable() const;
  void erase(const PrefixNode& node) noexcept;
  size_t size() const { return nodes_.size(); }

 private:
  std::unordered_multimap<uint64_t, PrefixNode> nodes_;  // by hash of the key
  uint64_t last_serial_ = 0;
};

}  // namespace tessera::kv
