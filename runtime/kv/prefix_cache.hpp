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
#include "runtime/kv/value.hpp"

namespace tessera::kv {

enum class PrefixKind : uint8_t {
  text,         // a block of session text, frame 0
  chunk_first,  // the first block of a chunk that was computed in place, in the chunk's frame
  chunk_next,   // a further block of it
  shared,       // a canonical text used as encoded; no block of its own
};

class PrefixCache;
struct PrefixNode;

struct PrefixKey {
  PrefixNode* parent = nullptr;  // the node before it; null: the root
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;           // shared: serial of the canonical text
  uint32_t hidden = 0;              // shared: its first tokens, which were computed in place
  std::span<const int32_t> tokens;  // others: the tokens in the block; fewer than P only where the
                                    // piece of context ends
  uint64_t length = 0;              // shared: tokens that are used of it; follows from the others
};

struct PrefixNode final : Valued, BlockWatcher {
  PrefixNode(PrefixCache& owner, const PrefixKey& key, std::vector<int32_t> text,
             BlockRef kv) noexcept;
  ~PrefixNode();
  PrefixNode(const PrefixNode&) = delete;
  PrefixNode& operator=(const PrefixNode&) = delete;

  PrefixCache& cache;
  uint64_t serial = 0;           // never 0, never used twice
  PrefixNode* parent = nullptr;  // null: the root
  PrefixKind kind = PrefixKind::text;
  uint64_t canonical = 0;
  uint32_t hidden = 0;
  std::vector<int32_t> tokens;
  BlockRef block;        // null for shared
  uint64_t end = 0;      // tokens from the root up to its last
  uint32_t holders = 0;  // children, and sessions whose context has come just this far
  uint64_t hash = 0;     // of its key

  bool unused() const { return block && block.use_count() == 1; }
  bool evictable() const { return holders == 0 && unused(); }

 private:
  void block_used(bool used) noexcept override;
};

// Guarded by the context's lock. A node stays where it is until it is erased, which happens only to
// nodes without holders: no path is ever cut. Where a shared text has nothing behind it any more
// its node goes by itself.
class PrefixCache {
 public:
  explicit PrefixCache(ValueRule& rule) : rule_(rule) {}

  // Null when unknown.
  PrefixNode* find(const PrefixKey& key);
  // Adds a node; `key` must not be known, and no other node have the block. If it throws, nothing
  // was added. A node without a block is to be held next.
  PrefixNode* insert(const PrefixKey& key, BlockRef block);

  // A session's context has come just this far, or is no longer there.
  void hold(PrefixNode& node) noexcept;
  void let_go(PrefixNode& node) noexcept;

  // Blocks that only the cache holds: what evicting one node after the other gives back, since
  // whoever holds a node's block holds the blocks before it too.
  uint64_t evictable_blocks() const { return evictable_blocks_; }
  // The node to give up first, of those that nothing stands behind; null when there is none. What
  // stands before it is then worth no less: it was used as often, and as lately.
  PrefixNode* cheapest() const { return static_cast<PrefixNode*>(queue_.first()); }
  // ... gives it up, with its block.
  void evict(PrefixNode& node) noexcept;

  size_t size() const { return nodes_.size(); }
  const auto& nodes() const { return nodes_; }  // by hash

 private:
  friend struct PrefixNode;
  void settle(PrefixNode& node) noexcept;
  void erase(PrefixNode& node) noexcept;
  void unlink(PrefixNode& node) noexcept;

  ValueRule& rule_;
  ValueQueue queue_;                                     // of evictable nodes
  std::unordered_multimap<uint64_t, PrefixNode> nodes_;  // by hash of the key
  uint64_t last_serial_ = 0;
  uint64_t evictable_blocks_ = 0;
};

}  // namespace tessera::kv
