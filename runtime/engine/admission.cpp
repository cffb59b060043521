// What a session reserves, and what makes room.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// Blocks that are free or could be made free.
uint64_t Context::obtainable() const {
  return pool_->free() + canonicals_.evictable_blocks() + prefixes_.evictable_blocks();
}

uint64_t Context::available() const {
  const uint64_t could = obtainable();
  return could > reserved_ ? could - reserved_ : 0;
}

void Context::check_available(uint64_t blocks) const {
  // Also for no blocks: what a session attached may have been promised to others.
  if (reserved_ + blocks <= obtainable()) return;
  const uint64_t room = available();
  const uint64_t bytes = pool_->block_bytes();
  fail(Status::capacity, "the KV budget has " + std::to_string(room * bytes) +
                             " bytes left beside what runs now; the request needs " +
                             std::to_string(blocks * bytes) + ", " +
                             std::to_string((blocks - room) * bytes) + " more");
}

// Blocks that the session still has to take for its own tokens and `new_tokens` more, all that is
// ready for it being attached.
uint64_t Context::own_need(const SessionState& session, uint64_t new_tokens) const {
  uint64_t need = 0;
  uint64_t behind = new_tokens;  // tokens that need a segment of their own
  for (size_t i = 0; i < session.segments.size(); ++i) {
    const Segment& segment = session.segments[i];
    if (!segment.computed_here()) continue;
    uint64_t tokens = segment.length;
    if (i + 1 == session.segments.size() && segment.kind == SegmentKind::text) {
      tokens += new_tokens;
      behind = 0;
    }
    const uint64_t blocks = pool_->blocks_for(tokens);
    need += blocks - std::min<uint64_t>(blocks, segment.span.blocks.size());
  }
  if (session.task->probe) need += pool_->blocks_for(session.task->probe->budget);
  return need + pool_->blocks_for(behind) + copies_needed(session);
}

// Pages that the session will write and others see. The last token is computed again where it is
// ready: reopen_last_token.
uint64_t Context::copies_needed(const SessionState& session) const {
  const Segment& last = session.segments.back();
  uint64_t copies = last.computed_here() ? 0 : 1;
  for (const Segment& segment : session.segments) {
    if (!segment.computed_here() || segment.span.blocks.empty()) continue;
    const bool shared = segment.span.blocks.back().use_count() > 1;
    if (segment.pending() > 0) {
      copies += shared && segment.span.slots % pool_->page_slots() != 0;
    } else if (&segment == &last) {
      // What stands behind a chunk that is not ready may become a prefix run when it is.
      copies += shared || !session.all_attached();
    }
  }
  return copies;
}

void Context::reserve(SessionState& session, uint64_t blocks) {
  session.reserved += blocks;
  reserved_ += blocks;
}

void Context::release_reservation(SessionState& session) noexcept {
  reserved_ -= session.reserved;
  session.reserved = 0;
}

// Gives back the blocks behind the last token with KV: those that a draft or a stopped step took
// and never filled.
void Context::release_unused(SessionState& session) noexcept {
  for (Segment& segment : session.segments) {
    if (!segment.computed_here()) continue;
    const uint64_t used = pool_->blocks_for(segment.span.slots);
    if (used < segment.span.blocks.size()) segment.span.shrink(used, segment.span.slots);
  }
}

// A block that is known to be obtainable.
kv::BlockRef Context::obtain_block() {
  kv::BlockRef block = pool_->try_allocate();
  while (!block) {
    evict_one();
    block = pool_->try_allocate();
  }
  return block;
}

kv::BlockRef Context::take_block(SessionState& session) {
  if (session.reserved == 0) fail(Status::internal, "a session took more pages than it reserved");
  kv::BlockRef block = obtain_block();
  --session.reserved;
  --reserved_;
  return block;
}

// Before the span's next slot is written: where others see its page, the session gets a copy. On
// the engine thread, between steps. If it throws, the span is as it was.
void Context::keep_to_itself(SessionState& session, kv::Span& span) {
  const uint32_t at = span.slots / pool_->page_slots();
  if (at >= span.blocks.size() || span.blocks[at].use_count() == 1) return;
  kv::BlockRef own = take_block(session);
  for (uint32_t g = 0; g < pool_->layout().groups.size(); ++g) {
    pool_->memory().copy(g, span.blocks[at]->page(g), own->page(g));
  }
  span.blocks[at] = std::move(own);
}

// Gives up the longest unused of all that only caches hold. Throws where there is none, which a
// reservation rules out.
void Context::evict_one() {
  kv::Canonical* oldest = nullptr;
  for (const kv::CanonicalRef& text : canonicals_.entries()) {
    if (text->evictable() && (!oldest || text->last_use < oldest->last_use)) oldest = text.get();
  }
  const kv::PrefixNode* node = prefixes_.oldest_evictable();
  if (node && (!oldest || node->last_use <= oldest->last_use)) {
    prefixes_.erase(*node);
  } else if (oldest) {
    kv::drop_kv(*oldest);
  } else {
    fail(Status::internal, "no page could be given back although one was reserved");
  }
}

}  // namespace tessera::engine
