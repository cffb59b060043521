// What the application does with the chunks that a context has: list, find, pin, drop.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

std::vector<kv::Identity> Context::list_chunks() {
  const std::vector<DiskEntry> files = list_disk();
  std::lock_guard guard(lock_);
  canonicals_.sweep();  // what is left is listed
  std::vector<kv::Identity> identities;
  for (const kv::CanonicalRef& entry : canonicals_.entries()) {
    if (entry->kind == kv::CanonicalKind::chunk) identities.push_back(entry->identity);
  }
  const std::vector<kv::Identity> known = identities;
  for (const DiskEntry& file : files) {
    if (std::ranges::find(known, file.identity) == known.end()) {
      identities.push_back(file.identity);
    }
  }
  return identities;
}

kv::CanonicalRef Context::find_chunk(const kv::Identity& identity) {
  if (kv::CanonicalRef known = known_chunk(identity)) return known;
  // Its KV is read when it is needed.
  if (disk_) return create_chunk(disk_tokens(identity), true);
  fail(Status::not_found, "the context has no chunk of this id; it may have been evicted");
}

// Null where memory has none.
kv::CanonicalRef Context::known_chunk(const kv::Identity& identity) {
  std::lock_guard guard(lock_);
  kv::CanonicalRef found;
  for (const kv::CanonicalRef& entry : canonicals_.entries()) {
    if (entry->kind != kv::CanonicalKind::chunk || entry->identity != identity) continue;
    if (found) fail(Status::not_found, "two chunks have this id; create the one meant by its text");
    found = entry;
  }
  return found;
}

// What is promised to running requests stays theirs.
void Context::pin_chunk(const kv::CanonicalRef& chunk, bool pinned) {
  std::lock_guard guard(lock_);
  if (pinned && chunk->evictable()) check_available(chunk->blocks.size());
  canonicals_.pin(*chunk, pinned);
}

// Nobody's KV is taken away. What is dropped loses its pin too, so that it can be forgotten.
void Context::drop_chunk(const kv::CanonicalRef& chunk, bool memory, bool disk) {
  disk = disk && disk_;
  {
    std::lock_guard guard(lock_);
    if ((memory || disk) && chunk->state == kv::CanonicalState::pending) {
      fail(Status::busy, "the chunk is being encoded, and would be written; wait for it first");
    }
    if (memory) drop_memory(chunk);
  }
  if (disk) remove_from_disk(chunk->identity);
}

void Context::drop_memory(const kv::CanonicalRef& chunk) {
  if (chunk->holders > 0) {
    const uint64_t sessions = sessions_of(*chunk);
    if (sessions == 0) fail(Status::busy, "a destroyed session is about to let go of the chunk");
    fail(Status::busy,
         "the chunk is in use, sessions: " + std::to_string(sessions) + "; destroy them first");
  }
  canonicals_.pin(*chunk, false);
  if (chunk->ready()) canonicals_.drop_kv(*chunk);
}

// Sessions that use the text now.
uint64_t Context::sessions_of(const kv::Canonical& text) const {
  return static_cast<uint64_t>(std::ranges::count_if(sessions_, [&](const SessionRef& session) {
    return std::ranges::any_of(session->segments, [&](const Segment& segment) {
      return segment.pinned && segment.canonical.get() == &text;
    });
  }));
}

}  // namespace tessera::engine
