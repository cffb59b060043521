// Canonical encodings: texts whose KV is computed once behind a fixed base and kept in its own
// frame, so that one copy serves every place. The anchor, the primer and all chunks are such texts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backends/error.hpp"
#include "runtime/kv/page_pool.hpp"
#include "runtime/kv/value.hpp"

namespace tessera::kv {

enum class CanonicalKind : uint8_t { anchor, primer, chunk };
enum class CanonicalState : uint8_t { absent, pending, ready, failed };

struct Identity {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Identity&) const = default;
};

// The key of a text: model, KV type, everything it is encoded behind, and its own tokens.
Identity identify(const Identity& base, CanonicalKind kind, const std::vector<int32_t>& tokens);

struct Canonical : Valued {
  CanonicalKind kind = CanonicalKind::chunk;
  std::vector<int32_t> tokens;
  Identity identity;
  uint64_t serial = 0;  // unique in its store

  CanonicalState state = CanonicalState::absent;  // `ready` is the store's to set and to end
  Status error = Status::ok;                      // of a failed encoding
  std::string message;
  bool failure_told = false;     // to somebody who waited
  std::vector<BlockRef> blocks;  // when ready: keys rotated from 0, slots filled in order

  uint32_t holders = 0;  // segments and encodings that use it: it keeps its KV
  bool pinned = false;   // by the application: it keeps its KV

  uint32_t size() const { return static_cast<uint32_t>(tokens.size()); }
  bool ready() const { return state == CanonicalState::ready; }
  bool evictable() const { return ready() && holders == 0 && !pinned; }
};

using CanonicalRef = std::shared_ptr<Canonical>;

// Guarded by the context's lock.
class CanonicalStore {
 public:
  explicit CanonicalStore(ValueRule& rule) : rule_(rule) {}

  // The entry for these tokens, new or known. Tokens are compared, not hashes alone. `depth`: how
  // many tokens it is encoded behind. If it throws, nothing changed.
  CanonicalRef intern(CanonicalKind kind, const Identity& identity, std::vector<int32_t> tokens,
                      uint64_t depth = 0);
  // Forgets entries without KV that nobody refers to and nobody pinned.
  void sweep();

  void hold(Canonical& entry) noexcept;
  void let_go(Canonical& entry) noexcept;
  // The application's pin; on a text without KV, of the KV it will have.
  void pin(Canonical& entry, bool pinned) noexcept;
  // Its KV is there.
  void take_in(Canonical& entry, std::vector<BlockRef> blocks) noexcept;
  // Gives the KV of a ready entry that nobody holds back to the pool; it can be encoded again.
  void drop_kv(Canonical& entry) noexcept;

  // The entry to give up first; null when there is none.
  Canonical* cheapest() const { return static_cast<Canonical*>(queue_.first()); }
  // ... gives its KV up.
  void evict(Canonical& entry) noexcept;

  const std::vector<CanonicalRef>& entries() const { return entries_; }
  uint64_t evictable_blocks() const { return evictable_blocks_; }
  uint64_t pinned_blocks() const { return pinned_blocks_; }
  uint64_t ready_chunks() const { return ready_chunks_; }

 private:
  void settle(Canonical& entry) noexcept;

  ValueRule& rule_;
  ValueQueue queue_;  // of evictable entries
  std::vector<CanonicalRef> entries_;
  std::unordered_multimap<uint64_t, CanonicalRef> by_identity_;
  uint64_t next_serial_ = 1;
  uint64_t evictable_blocks_ = 0;
  uint64_t pinned_blocks_ = 0;
  uint64_t ready_chunks_ = 0;
};

}  // namespace tessera::kv
