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

struct PrefixKey {
  uint64_t parent = 0;  // serial of the node before it; 0: the beginning
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;           // shared: serial of the canonical text
  std::span<const int32_t> tokens;  // others: the tokens in the block; fewer than P only where the
                                    // piece of context ends
};

struct PrefixNode {
  uint64_t serial = 0;  // never 0, never used twice
  uint64_t parent = 0;
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;
  std::vector<int32_t> tokens;
  BlockRef block;      // null for shared
  bool exact = true;   // nothing before it was approximate
  uint32_t depth = 0;  // nodes from the root
  uint64_t last_use = 0;

  bool evictable() const { return !block || block.use_count() == 1; }
};

// Guarded by the context's lock. Node pointers are valid until the next insert or evict.
class PrefixCache {
 public:
  // Null when unknown. Marks the node as used at `now`.
  PrefixNode* find(const PrefixKey& key, uint64_t now);
  // Adds a node; `key` must not be known. `parent_depth` is 0 for a child of the root.
  PrefixNode* insert(const PrefixKey& key, BlockRef block, bool exact, uint32_t parent_depth,
                     uint64_t now);

  uint64_t evictable_blocks() const;
  // The node to give up first: unused by sessions, longest unused, deepest. Null when none. It may
  // hold no block.
  const PrefixNode* oldest_evictable() const;
  void erase(uint64_t serial);
  size_t size() const { return nodes_.size(); }

 private:
  std::unordered_multimap<uint64_t, PrefixNode> nodes_;  // by hash of the key
  uint64_t last_serial_ = 0;
};

}  // namespace tessera::kv
