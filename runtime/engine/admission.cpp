// What a session reuses, what it reserves, and what makes room.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

uint64_t Context::available() const {
  const uint64_t could =
      pool_->free() + canonicals_.evictable_blocks() + prefixes_.evictable_blocks();
  return could > reserved_ ? could - reserved_ : 0;
}

void Context::check_available(uint64_t blocks) const {
  const uint64_t room = available();
  if (blocks <= room) return;
  const uint64_t bytes = pool_->block_bytes();
  fail(Status::capacity, "the KV budget has " + std::to_string(room * bytes) +
                             " bytes left beside what runs now; the request needs " +
                             std::to_string(blocks * bytes) + ", " +
                             std::to_string((blocks - room) * bytes) + " more");
}

// Blocks that the session still has to take for its own tokens and `new_tokens` more.
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
  return need + pool_->blocks_for(behind);
}

void Context::reserve(SessionState& session, uint64_t blocks) {
  session.reserved += blocks;
  reserved_ += blocks;
}

void Context::release_reservation(SessionState& session) noexcept {
  reserved_ -= session.reserved;
  session.reserved = 0;
}

kv::BlockRef Context::take_block(SessionState& session) {
  if (session.reserved == 0) fail(Status::internal, "a session took more pages than it reserved");
  kv::BlockRef block = pool_->try_allocate();
  while (!block) {
    evict_one();
    block = pool_->try_allocate();
  }
  --session.reserved;
  --reserved_;
  return block;
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
    prefixes_.erase(node->serial);
  } else if (oldest) {
    kv::drop_kv(*oldest);
  } else {
    fail(Status::internal, "no page could be given back although one was reserved");
  }
}

// Takes the KV of canonical texts that are ready.
void Context::attach_ready(SessionState& session) {
  for (Segment& segment : session.segments) {
    if (segment.computed_here() || segment.attached) continue;
    kv::Canonical& text = *segment.canonical;
    if (text.state != kv::CanonicalState::ready) continue;
    const uint32_t page_slots = pool_->page_slots();
    for (uint32_t at = 0, b = 0; at < segment.length; at += page_slots, ++b) {
      segment.span.append(text.blocks[b], std::min(page_slots, segment.length - at));
    }
    segment.attached = true;
    if (!segment.pinned) {
      ++text.pins;
      segment.pinned = true;
    }
    ++text.uses;
    text.last_use = ++clock_;
    (segment.exact ? session.ready_exact : session.ready_approximate) += segment.length;
    if (session.task && session.task->purpose != Purpose::encode) {
      Task& task = *session.task;
      (segment.exact ? task.reused_exact : task.reused_approximate) += segment.length;
      counts_.shared_tokens += segment.length;
    }
  }
}

// Moves the session along the prefix tree: publishes blocks that it has computed and, with `match`,
// takes blocks that others have.
void Context::walk_prefix(SessionState& session, bool match) {
  while (session.prefix_open && session.prefix_segment < session.segments.size()) {
    const bool last = session.prefix_segment + 1 == session.segments.size();
    Segment& segment = session.segments[session.prefix_segment];
    if (!segment.computed_here()) {
      if (!segment.attached) return;
      step_prefix(session,
                  {session.prefix_parent, kv::PrefixKind::shared, segment.canonical->serial, {}},
                  nullptr, segment.exact);
    } else {
      const bool closed = !last || segment.kind != SegmentKind::text;
      publish_blocks(session, segment, closed);
      while (match && match_block(session, segment, last)) {
      }
      const bool whole = segment.published == pool_->blocks_for(segment.length);
      if (segment.pending() > 0 || !closed || !whole) return;
    }
    ++session.prefix_segment;
  }
}

namespace {

kv::PrefixKey block_key(const SessionState& session, const Segment& segment, uint32_t page_slots,
                        uint32_t tokens) {
  kv::PrefixKey key;
  key.parent = session.prefix_parent;
  key.kind = segment.kind == SegmentKind::text ? kv::PrefixKind::text
             : segment.published == 0          ? kv::PrefixKind::chunk_first
                                               : kv::PrefixKind::chunk_next;
  key.tokens = std::span(segment.tokens).subspan(segment.published * page_slots, tokens);
  return key;
}

}  // namespace

void Context::publish_blocks(SessionState& session, Segment& segment, bool closed) {
  const uint32_t page_slots = pool_->page_slots();
  while (true) {
    const uint32_t first = segment.published * page_slots;
    if (first >= segment.span.slots) return;
    const uint32_t tokens = std::min(page_slots, segment.span.slots - first);
    if (tokens < page_slots && !(closed && segment.pending() == 0)) return;
    step_prefix(session, block_key(session, segment, page_slots, tokens),
                segment.span.blocks[segment.published], segment.exact);
    ++segment.published;
  }
}

bool Context::match_block(SessionState& session, Segment& segment, bool last_segment) {
  const uint32_t page_slots = pool_->page_slots();
  const uint32_t pending = segment.pending();
  // At a page boundary, with no page of its own begun.
  if (pending == 0 || segment.span.slots != segment.published * page_slots ||
      segment.span.blocks.size() != segment.published) {
    return false;
  }
  const uint32_t tokens = std::min(page_slots, pending);
  const bool closed = !last_segment || segment.kind != SegmentKind::text;
  if (tokens < page_slots && !closed) return false;
  if (last_segment && tokens == pending) return false;  // the last token's logits are wanted
  const kv::PrefixNode* node =
      prefixes_.find(block_key(session, segment, page_slots, tokens), ++clock_);
  if (!node) return false;
  segment.span.append(node->block, tokens);
  ++segment.published;
  session.prefix_parent = node->serial;
  session.prefix_depth = node->depth;
  (segment.exact ? session.ready_exact : session.ready_approximate) += tokens;
  Task& task = *session.task;
  (segment.exact ? task.reused_exact : task.reused_approximate) += tokens;
  counts_.prefix_tokens += tokens;
  return true;
}

// One edge of the prefix tree, known or new.
void Context::step_prefix(SessionState& session, const kv::PrefixKey& key,
                          const kv::BlockRef& block, bool exact) {
  const kv::PrefixNode* node = prefixes_.find(key, ++clock_);
  if (!node) node = prefixes_.insert(key, block, exact, session.prefix_depth, clock_);
  session.prefix_parent = node->serial;
  session.prefix_depth = node->depth;
}

// Where every token has its KV, nothing would be computed and there would be no logits: takes the
// last token out again. A page that others may read is never written, so there the token gets a
// page of its own and hides its slot of the shared one.
void Context::reopen_last_token(SessionState& session) {
  for (const Segment& segment : session.segments) {
    if (segment.pending() > 0) return;
  }
  Segment& last = session.segments.back();
  --(last.exact ? session.ready_exact : session.ready_approximate);
  if (session.task) {
    Task& task = *session.task;
    uint64_t& reused = last.exact ? task.reused_exact : task.reused_approximate;
    if (reused > 0) --reused;
  }
  const uint32_t page_slots = pool_->page_slots();
  const uint32_t slot = last.length - 1;
  const bool own_page = last.computed_here() && last.span.blocks.back().use_count() == 1;
  --last.span.slots;
  last.span.masks.back() &= ~(uint64_t{1} << (slot % page_slots));
  if (own_page) return;

  session.prefix_open = false;
  Segment tail;
  tail.kind = SegmentKind::recomputed;
  tail.canonical = last.canonical;
  tail.exact = last.exact;
  tail.tokens = {last.computed_here() ? last.tokens.back() : last.canonical->tokens.back()};
  tail.length = 1;
  tail.span.logical_start = last.span.logical_start + static_cast<int32_t>(slot);
  tail.span.frame_start = last.span.frame_start;
  last.length = slot;
  if (last.computed_here()) last.tokens.pop_back();
  if (slot % page_slots == 0) {
    last.span.blocks.pop_back();
    last.span.masks.pop_back();
  }
  if (last.length == 0) {
    tail.exact = last.exact;
    if (last.pinned) --last.canonical->pins;
    session.segments.pop_back();
  }
  session.segments.push_back(std::move(tail));
}

void Context::unpin(SessionState& session) noexcept {
  for (Segment& segment : session.segments) {
    if (segment.pinned) --segment.canonical->pins;
    segment.pinned = false;
  }
}

}  // namespace tessera::engine
