#include "runtime/kv/canonical_store.hpp"

#include <xxhash.h>

#include <algorithm>

#include "runtime/kv/hash_mask.hpp"

namespace tessera::kv {

Identity identify(const Identity& base, CanonicalKind kind, const std::vector<int32_t>& tokens) {
  // The seed takes the base's one half and the kind, the text the other half and the tokens.
  std::vector<int32_t> text(tokens);
  text.push_back(static_cast<int32_t>(base.high));
  text.push_back(static_cast<int32_t>(base.high >> 32));
  const XXH128_hash_t hash = XXH3_128bits_withSeed(text.data(), text.size() * sizeof(int32_t),
                                                   base.low + static_cast<uint64_t>(kind));
  return {masked(hash.low64), masked(hash.high64)};
}

CanonicalRef CanonicalStore::intern(CanonicalKind kind, const Identity& identity,
                                    std::vector<int32_t> tokens, uint64_t depth) {
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
  entry->cost = rule_.work().of(entry->size(), depth);
  queue_.make_room(entries_.size() + 1);
  entries_.reserve(entries_.size() + 1);
  by_identity_.emplace(identity.low, entry);
  entries_.push_back(entry);
  return entry;
}

void CanonicalStore::sweep() {
  // Two references are the store's own.
  const auto forgotten = [](const CanonicalRef& entry) {
    return entry.use_count() == 2 && entry->holders == 0 && !entry->pinned && !entry->ready() &&
           entry->state != CanonicalState::pending;
  };
  for (auto it = by_identity_.begin(); it != by_identity_.end();) {
    it = forgotten(it->second) ? by_identity_.erase(it) : std::next(it);
  }
  std::erase_if(entries_, [](const CanonicalRef& entry) { return entry.use_count() == 1; });
}

// Brings the queue up to date with the entry.
void CanonicalStore::settle(Canonical& entry) noexcept {
  if (entry.evictable() == entry.queued()) return;
  if (entry.queued()) {
    queue_.remove(entry);
    evictable_blocks_ -= entry.blocks.size();
  } else {
    queue_.push(entry);
    evictable_blocks_ += entry.blocks.size();
  }
}

void CanonicalStore::hold(Canonical& entry) noexcept {
  ++entry.holders;
  settle(entry);
}

void CanonicalStore::let_go(Canonical& entry) noexcept {
  --entry.holders;
  if (entry.holders == 0) rule_.used(entry);
  settle(entry);
}

void CanonicalStore::pin(Canonical& entry, bool pinned) noexcept {
  if (entry.pinned == pinned) return;
  entry.pinned = pinned;
  if (entry.ready()) {
    pinned_blocks_ += pinned ? entry.blocks.size() : -entry.blocks.size();
    if (!pinned) rule_.used(entry);
  }
  settle(entry);
}

void CanonicalStore::take_in(Canonical& entry, std::vector<BlockRef> blocks) noexcept {
  entry.blocks = std::move(blocks);
  entry.bytes = entry.blocks.size() * entry.blocks.front()->bytes();
  entry.state = CanonicalState::ready;
  if (entry.pinned) pinned_blocks_ += entry.blocks.size();
  if (entry.kind == CanonicalKind::chunk) ++ready_chunks_;
  rule_.used(entry);
  settle(entry);
}

void CanonicalStore::drop_kv(Canonical& entry) noexcept {
  entry.state = CanonicalState::absent;
  if (entry.pinned) pinned_blocks_ -= entry.blocks.size();
  if (entry.kind == CanonicalKind::chunk) --ready_chunks_;
  settle(entry);
  entry.blocks.clear();
}

void CanonicalStore::evict(Canonical& entry) noexcept {
  rule_.given_up(entry);
  drop_kv(entry);
}

}  // namespace tessera::kv
