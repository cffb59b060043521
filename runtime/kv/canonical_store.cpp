#include "runtime/kv/canonical_store.hpp"

#include <xxhash.h>

#include <algorithm>

namespace tessera::kv {

Identity identify(const Identity& base, CanonicalKind kind, const std::vector<int32_t>& tokens) {
  // The seed takes the base's one half and the kind, the text the other half and the tokens.
  std::vector<int32_t> text(tokens);
  text.push_back(static_cast<int32_t>(base.high));
  text.push_back(static_cast<int32_t>(base.high >> 32));
  const XXH128_hash_t hash = XXH3_128bits_withSeed(text.data(), text.size() * sizeof(int32_t),
                                                   base.low + static_cast<uint64_t>(kind));
  return {hash.low64, hash.high64};
}

CanonicalRef CanonicalStore::intern(CanonicalKind kind, const Identity& identity,
                                    std::vector<int32_t> tokens) {
  const auto [first, last] = by_identity_.equal_range(identity.low);
  for (auto it = first; it != last; ++it) {
    const Canonical& entry = *it->second;
    if (entry.kind == kind && entry.identity == identity && entry.tokens == tokens) {
      return it->second;
    }
  }
  auto entry = std::make_shared<Canonical>();
  entry->kind = kind;
  entry->tokens = std::move(tokens);
  entry->identity = identity;
  entry->serial = next_serial_++;
  entries_.push_back(entry);
  by_identity_.emplace(identity.low, entry);
  return entry;
}

void CanonicalStore::sweep() {
  // Two references are the store's own.
  const auto forgotten = [](const CanonicalRef& entry) {
    return entry.use_count() == 2 && entry->pins == 0 && entry->state != CanonicalState::ready &&
           entry->state != CanonicalState::pending;
  };
  for (auto it = by_identity_.begin(); it != by_identity_.end();) {
    it = forgotten(it->second) ? by_identity_.erase(it) : std::next(it);
  }
  std::erase_if(entries_, [](const CanonicalRef& entry) { return entry.use_count() == 1; });
}

uint64_t CanonicalStore::evictable_blocks() const {
  uint64_t blocks = 0;
  for (const CanonicalRef& entry : entries_) {
    if (entry->evictable()) blocks += entry->blocks.size();
  }
  return blocks;
}

uint64_t CanonicalStore::ready_chunks() const {
  return static_cast<uint64_t>(std::ranges::count_if(entries_, [](const CanonicalRef& entry) {
    return entry->kind == CanonicalKind::chunk && entry->state == CanonicalState::ready;
  }));
}

void drop_kv(Canonical& entry) noexcept {
  entry.blocks.clear();
  entry.state = CanonicalState::absent;
}

}  // namespace tessera::kv
