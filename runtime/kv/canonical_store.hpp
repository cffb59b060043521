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

struct Canonical {
  CanonicalKind kind = CanonicalKind::chunk;
  std::vector<int32_t> tokens;
  Identity identity;
  uint64_t serial = 0;  // unique in its store

  CanonicalState state = CanonicalState::absent;
  Status error = Status::ok;  // of a failed encoding
  std::string message;
  bool failure_told = false;     // to somebody who waited
  std::vector<BlockRef> blocks;  // when ready: keys rotated from 0, slots filled in order

  uint32_t pins = 0;      // sessions and encodings that use it: not evicted
  uint64_t uses = 0;      // prompts that took it
  uint64_t last_use = 0;  // on the context's clock

  uint32_t size() const { return static_cast<uint32_t>(tokens.size()); }
  bool evictable() const { return state == CanonicalState::ready && pins == 0; }
};

using CanonicalRef = std::shared_ptr<Canonical>;

// Guarded by the context's lock.
class CanonicalStore {
 public:
  // The entry for these tokens, new or known. Tokens are compared, not hashes alone. An entry that
  // nobody refers to and that has no KV is forgotten by `sweep`.
  CanonicalRef intern(CanonicalKind kind, const Identity& identity, std::vector<int32_t> tokens);
  void sweep();

  const std::vector<CanonicalRef>& entries() const { return entries_; }
  uint64_t evictable_blocks() const;
  uint64_t ready_chunks() const;

 private:
  std::vector<CanonicalRef> entries_;
  std::unordered_multimap<uint64_t, CanonicalRef> by_identity_;
  uint64_t next_serial_ = 1;
};

// Gives the KV of a ready, unpinned entry back to the pool; it can be encoded again.
void drop_kv(Canonical& entry) noexcept;

}  // namespace tessera::kv
