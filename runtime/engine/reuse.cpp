// What a session takes instead of computing it, and what it leaves for others.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// The pages of a canonical text that is ready, less what stands in `all` beside it: a chunk's head
// and selected tokens. If it throws, nothing changed.
void Context::show_encoded(std::span<const Segment> all, Segment& segment) const {
  const uint32_t page_slots = pool_->page_slots();
  const kv::Canonical& text = *segment.canonical;
  const uint32_t first = segment.skip / page_slots;
  const uint32_t end = segment.skip + segment.length;
  segment.span.reserve(text.blocks.size() - first);
  for (uint32_t b = first, at = first * page_slots; at < end; at += page_slots, ++b) {
    segment.span.append(text.blocks[b], std::min(page_slots, end - at));
  }
  for (uint32_t slot = 0; slot < segment.skip % page_slots; ++slot) {
    segment.span.hide(slot, page_slots);
  }
  for (const Segment& overlay : all) {
    if (!overlay.overlay() || segment.replaced == 0) continue;
    for (const int32_t position : overlay.span.positions) {
      const int64_t slot = int64_t{position} - segment.span.logical_start;
      if (slot < 0 || slot >= segment.span.slots) continue;
      segment.span.hide(static_cast<uint32_t>(slot), page_slots);
    }
  }
}

// Takes the KV of canonical texts that are ready.
void Context::attach_ready(SessionState& session) {
  for (Segment& segment : session.segments) {
    if (segment.computed_here() || segment.attached) continue;
    kv::Canonical& text = *segment.canonical;
    if (text.state != kv::CanonicalState::ready) continue;
    show_encoded(session.segments, segment);
    segment.attached = true;
    const uint32_t taken = segment.ready();
    if (!segment.pinned) {
      canonicals_.hold(text);
      segment.pinned = true;
    }
    ++text.uses;
    (segment.exact ? session.ready_exact : session.ready_approximate) += taken;
    if (session.task->purpose != Purpose::encode) {
      Task& task = *session.task;
      (segment.exact ? task.reused_exact : task.reused_approximate) += taken;
      counts_.shared_tokens += taken;
    }
  }
}

namespace {

kv::PrefixKey shared_key(const SessionState& session, const Segment& segment) {
  kv::PrefixKey key;
  key.parent = session.prefix;
  key.kind = kv::PrefixKind::shared;
  key.canonical = segment.canonical->serial;
  key.hidden = segment.skip;
  key.length = segment.length;
  // Of a chunk that a rewind cut: what is left.
  if (segment.skip + segment.length < segment.canonical->size()) key.tokens = segment.text();
  return key;
}

kv::PrefixKey block_key(const SessionState& session, const Segment& segment, uint32_t page_slots,
                        uint32_t tokens) {
  kv::PrefixKey key;
  key.parent = session.prefix;
  key.kind = segment.kind == SegmentKind::text ? kv::PrefixKind::text
             : segment.published == 0          ? kv::PrefixKind::chunk_first
                                               : kv::PrefixKind::chunk_next;
  key.tokens = std::span(segment.tokens).subspan(segment.published * page_slots, tokens);
  return key;
}

}  // namespace

// Moves the session along the prefix tree: publishes blocks that it has computed and, with `match`,
// takes blocks that others have.
void Context::walk_prefix(SessionState& session, bool match) {
  while (session.prefix_open && session.prefix_segment < session.segments.size()) {
    const bool last = session.prefix_segment + 1 == session.segments.size();
    Segment& segment = session.segments[session.prefix_segment];
    if (!segment.computed_here()) {
      if (!segment.attached) return;
      come_to(session, edge(shared_key(session, segment), nullptr));
    } else {
      if (probing(session, session.prefix_segment)) return;
      const bool closed = !last || segment.kind != SegmentKind::text;
      publish_blocks(session, segment, closed);
      if (!session.prefix_open) return;
      while (match && match_block(session, segment, last)) {
      }
      const bool whole = segment.published == pool_->blocks_for(segment.length);
      if (segment.pending() > 0 || !closed || !whole) return;
    }
    ++session.prefix_segment;
  }
}

void Context::publish_blocks(SessionState& session, Segment& segment, bool closed) {
  const uint32_t page_slots = pool_->page_slots();
  while (true) {
    const uint32_t first = segment.published * page_slots;
    if (first >= segment.span.slots) return;
    const uint32_t tokens = std::min(page_slots, segment.span.slots - first);
    if (tokens < page_slots && !(closed && segment.pending() == 0)) return;
    kv::BlockRef& block = segment.span.blocks[segment.published];
    const kv::PrefixKey key = block_key(session, segment, page_slots, tokens);
    kv::PrefixNode* node = prefixes_.find(key);
    // A page of another run: a rewind cut it, and nothing followed. Or one that would be given up
    // for the run's while a fork keeps it (restored pages): then who holds what stands behind it
    // would not hold it.
    const bool others = block.use_count() > (block->watcher() ? 2u : 1u);
    if (node ? node->block != block && others : block->watcher() != nullptr) {
      leave_runs(session, static_cast<uint64_t>(segment.span.logical_start) + first);
      return;
    }
    if (!node) node = prefixes_.insert(key, block);
    // Where another session was first, its block serves both: the same tokens behind the same
    // context. So whoever stands on a node holds the blocks of the whole path.
    block = node->block;
    come_to(session, node);
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
  if (last_segment && tokens == pending) return false;  // the last token's logits are wanted
  kv::PrefixNode* node = prefixes_.find(block_key(session, segment, page_slots, tokens));
  if (!node) return false;
  segment.span.append(node->block, tokens);
  ++segment.published;
  come_to(session, node);
  (segment.exact ? session.ready_exact : session.ready_approximate) += tokens;
  Task& task = *session.task;
  (segment.exact ? task.reused_exact : task.reused_approximate) += tokens;
  counts_.prefix_tokens += tokens;
  // A block that was promised is not needed any more; this one is no longer there for others.
  if (session.reserved > 0) {
    --session.reserved;
    --reserved_;
  }
  return true;
}

// One edge of the prefix tree, known or new.
kv::PrefixNode* Context::edge(const kv::PrefixKey& key, const kv::BlockRef& block) {
  kv::PrefixNode* node = prefixes_.find(key);
  return node ? node : prefixes_.insert(key, block);
}

// One node on: a prompt more that has taken it, or made it.
void Context::come_to(SessionState& session, kv::PrefixNode* node) noexcept {
  ++node->uses;
  stand_on(session, node);
}

void Context::stand_on(SessionState& session, kv::PrefixNode* node) noexcept {
  if (node) prefixes_.hold(*node);
  if (session.prefix) prefixes_.let_go(*session.prefix);
  session.prefix = node;
}

// The rest of the session, from `position` on, is its own.
void Context::leave_runs(SessionState& session, uint64_t position) noexcept {
  session.prefix_open = false;
  session.private_from = std::min(session.private_from, position);
  stand_on(session, nullptr);
}

// In front of the last segment's last block, which prefix runs have.
void Context::step_back(SessionState& session) noexcept {
  --session.segments.back().published;
  if (!session.prefix_open) return;
  stand_on(session, session.prefix->parent);
  session.prefix_segment = static_cast<uint32_t>(session.segments.size() - 1);
}

// The last token is always computed, for its logits: where it has its KV already, this takes it out
// again. That of a canonical text gets a page of its own and hides its slot of the text's. If it
// throws, nothing changed.
void Context::reopen_last_token(SessionState& session) {
  if (session.segments.back().pending() > 0) return;
  const uint32_t page_slots = pool_->page_slots();
  const bool in_place = session.segments.back().computed_here();
  Segment tail;
  if (!in_place) {
    const Segment& last = session.segments.back();
    tail.kind = SegmentKind::recomputed;
    tail.canonical = last.canonical;
    tail.exact = last.exact;
    tail.reopened = true;
    tail.tokens = {last.text().back()};
    tail.length = 1;
    tail.span.logical_start = last.span.position(last.span.slots - 1);
    tail.span.frame_start = last.span.frame_start;
    session.segments.reserve(session.segments.size() + 1);
  }

  // Nothing fails from here on.
  Segment& last = session.segments.back();
  --(last.exact ? session.ready_exact : session.ready_approximate);
  Task& task = *session.task;
  uint64_t& reused = last.exact ? task.reused_exact : task.reused_approximate;
  if (reused > 0) --reused;
  const uint32_t slot = last.span.slots - 1;
  last.span.empty_behind(slot, page_slots);
  if (in_place) {
    if (last.published * page_slots > slot) step_back(session);
    const bool shared = last.span.blocks.back().use_count() > 1;
    if (shared && slot % page_slots == 0) last.span.shrink(last.span.blocks.size() - 1, slot);
    return;
  }

  leave_runs(session, static_cast<uint64_t>(tail.span.logical_start));
  --last.length;
  if (slot % page_slots == 0) last.span.shrink(last.span.blocks.size() - 1, slot);
  if (last.length == 0) {
    if (last.pinned) canonicals_.let_go(*last.canonical);
    session.segments.pop_back();
  }
  session.segments.push_back(std::move(tail));
}

}  // namespace tessera::engine
