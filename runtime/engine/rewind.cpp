// A session taken back to an earlier position. What it keeps is built beside what it has: its KV
// stays, a page that is cut stays the same page, and is copied where others see it and the session
// writes again.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// Keeps the first `length` tokens of the segment, of which nothing is hidden.
void Context::cut(Segment& segment, uint64_t length) const noexcept {
  const uint32_t page_slots = pool_->page_slots();
  segment.length = static_cast<uint32_t>(length);
  uint32_t slots = segment.length + segment.skip % page_slots;
  if (segment.computed_here()) {
    slots = segment.length;
    segment.tokens.resize(segment.length);
  }
  if (segment.span.slots <= slots) return;
  segment.span.empty_behind(slots, page_slots);
  segment.span.shrink(pool_->blocks_for(slots), slots);
}

// What questions selected that are not kept is the chunks' again.
void Context::put_back_behind(std::vector<Segment>& segments, uint64_t tokens) const noexcept {
  const auto undone = [&](const Segment& segment) { return segment.selected_at >= tokens; };
  for (Segment& chunk : segments) {
    if (chunk.kind != SegmentKind::shared || !chunk.selected_from) continue;
    for (const Segment& overlay : segments) {
      if (!overlay.overlay() || !undone(overlay)) continue;
      for (const int32_t position : overlay.span.positions) {
        const int64_t at = int64_t{position} - chunk.span.frame_start;
        if (at < chunk.skip || at >= int64_t{chunk.skip} + chunk.length) continue;
        --chunk.replaced;
        if (!chunk.attached) continue;
        chunk.span.show(static_cast<uint32_t>(position - chunk.span.logical_start),
                        pool_->page_slots());
      }
    }
    if (undone(chunk)) chunk.selected_from = false;
  }
  std::erase_if(segments, [&](const Segment& s) { return s.overlay() && undone(s); });
}

// Where the last segment is the last token of a canonical text, computed again for an answer that
// is not kept, the text has it as encoded.
void Context::close_again(std::vector<Segment>& segments) const {
  const Segment tail = segments.back();
  if (!tail.reopened) return;
  segments.pop_back();
  Segment whole;
  const auto place = static_cast<uint32_t>(tail.span.logical_start - tail.span.frame_start);
  const bool goes_on = !segments.empty() && !segments.back().computed_here() &&
                       segments.back().canonical == tail.canonical &&
                       segments.back().span.frame_start == tail.span.frame_start;
  if (goes_on) {
    whole = std::move(segments.back());
    segments.pop_back();
  } else {  // it was all that stood there
    whole.kind = tail.canonical->kind == kv::CanonicalKind::anchor ? SegmentKind::anchor
                                                                   : SegmentKind::shared;
    whole.canonical = tail.canonical;
    whole.skip = place;
    whole.exact = tail.exact;
    whole.span.frame_start = tail.span.frame_start;
    const uint32_t page_slots = pool_->page_slots();
    whole.span.logical_start =
        tail.span.frame_start + static_cast<int32_t>(place / page_slots * page_slots);
  }
  ++whole.length;
  if (whole.attached) {
    whole.span.shrink(0, 0);
    show_encoded(segments, whole);
  }
  segments.push_back(std::move(whole));
}

// Text that stood between chunks, and is now last, is part of the next question: that looks at the
// chunks with all of it. An answer right behind a chunk is not. Returns whether a question may
// come.
bool Context::make_question(const SessionOptions& options, std::vector<Segment>& kept) noexcept {
  if (kept.empty() || kept.back().kind != SegmentKind::text) return true;
  if (kept.size() > 1 && kept[kept.size() - 2].reopened) return false;
  if (options.reselect) return true;
  if (tokens_to_select(options, kept) > 0) kept.back().span.shrink(0, 0);
  return true;
}

void Context::rewind(SessionState& session, uint64_t tokens) {
  std::lock_guard guard(lock_);
  check_idle(session);
  if (tokens > session.tokens) {
    fail(Status::invalid_argument, "tokens is " + std::to_string(tokens) + "; the session has " +
                                       std::to_string(session.tokens));
  }
  if (tokens == session.tokens) return;
  std::vector<Segment> kept = session.segments;
  put_back_behind(kept, tokens);
  size_t count = 0;
  for (uint64_t left = tokens; left > 0; ++count) {
    Segment& segment = kept[count];
    if (segment.overlay()) continue;
    if (segment.length > left) cut(segment, left);
    left -= segment.length;
  }
  kept.resize(count);
  uint64_t private_from = session.private_from;
  if (!kept.empty() && kept.back().reopened) {
    const auto place = static_cast<uint64_t>(kept.back().span.logical_start);
    if (private_from == place) private_from = SessionState::kNone;
    close_again(kept);
  }
  const bool asks = make_question(session.options, kept);
  for (Segment& segment : kept) segment.published = 0;  // the prefix tree is walked anew

  // Nothing fails from here on.
  for (const Segment& segment : kept) {
    if (segment.pinned) canonicals_.hold(*segment.canonical);
  }
  for (const Segment& segment : session.segments) {
    if (segment.pinned) canonicals_.let_go(*segment.canonical);
  }
  session.segments = std::move(kept);
  session.tokens = tokens;
  session.settled = std::min(session.settled, tokens);
  session.asks = asks && tokens > 0;
  session.ready_exact = session.ready_approximate = 0;
  for (const Segment& segment : session.segments) {
    (segment.exact ? session.ready_exact : session.ready_approximate) += segment.ready();
  }
  if (tokens <= private_from) {
    private_from = SessionState::kNone;
    session.prefix_open = true;
  }
  session.private_from = private_from;
  session.prefix_segment = 0;
  stand_on(session, nullptr);
}

}  // namespace tessera::engine
