// A session from bytes. Whatever they hold is checked before anything is taken: with a right
// checksum they may still be anybody's.
#include <algorithm>
#include <cmath>

#include "runtime/engine/page_access.hpp"

namespace tessera::engine {
namespace {

constexpr uint32_t kMostEvents = 1u << 20;

void check(bool right, const char* what) {
  if (!right) {
    fail(Status::corrupt_file,
         std::string("the bytes of the saved session are not a session: ") + what);
  }
}

void check_options(const SessionOptions& options) {
  check(options.event_capacity > 0 && options.event_capacity <= kMostEvents,
        "the event capacity is out of range");
  check(options.chosen.empty(), "applications choose no tokens");
  for (const float share : {options.select_share, options.select_layers}) {
    check(std::isfinite(share) && share >= 0 && share <= 1, "a share is out of range");
  }
}

// Checks segments one after the other, and counts.
class Checker {
 public:
  Checker(const SavedSession& saved, const kv::CanonicalRef& anchor, uint32_t page_slots)
      : saved_(saved), anchor_(anchor), page_slots_(page_slots) {}

  void add(const SavedSegment& s) {
    check(s.length > 0 && s.slots <= s.length, "a segment has a wrong length");
    check(!s.reopened || (s.kind == SegmentKind::recomputed && s.length == 1),
          "a segment has a wrong flag");
    check(!s.repairs || s.kind == SegmentKind::recomputed, "a segment has a wrong flag");
    check(s.skip == 0 || s.reopened || s.kind == SegmentKind::shared,
          "a segment begins within its text");
    if (s.reopened) private_from = std::min(private_from, tokens);
    switch (s.kind) {
      case SegmentKind::text:
        check(s.values.size() == s.length && s.text == SavedSegment::kNoText,
              "a text's tokens and length differ");
        break;
      case SegmentKind::selected:
        add_selected(s);
        return;
      case SegmentKind::anchor:
        check(tokens == 0 && s.text == SavedSegment::kAnchor, "the anchor is not in front");
        [[fallthrough]];
      case SegmentKind::shared:
        check(s.slots == 0, "a chunk's pages are saved");
        [[fallthrough]];
      case SegmentKind::recomputed:
        check(s.values.empty() && s.skip <= tokens && s.skip + uint64_t{s.length} <= size_of(s),
              "a chunk is longer than its text");
        if (s.kind == SegmentKind::shared) {
          check(s.text != SavedSegment::kAnchor, "the anchor is taken for a chunk");
          chunks_.push_back({&s, tokens});
        }
        break;
    }
    tokens += s.length;
    check(tokens <= INT32_MAX, "it has too many tokens");
    blocks += (s.slots + uint64_t{page_slots_} - 1) / page_slots_;
  }

  uint64_t tokens = 0;
  uint64_t blocks = 0;
  uint64_t private_from = SessionState::kNone;  // at the latest

 private:
  struct Chunk {
    const SavedSegment* segment;
    uint64_t start;
    int64_t taken = -1;  // the last position that was selected
  };

  uint64_t size_of(const SavedSegment& s) const {
    if (s.text == SavedSegment::kAnchor && anchor_) return anchor_->size();
    check(s.text < saved_.chunks.size(), "a chunk's text is missing");
    return saved_.chunks[s.text].size();
  }

  void add_selected(const SavedSegment& s) {
    check(s.values.size() == s.length && s.text == SavedSegment::kNoText && !s.exact,
          "selected tokens and their positions differ");
    check(&s != &saved_.segments.back(), "nothing is behind selected tokens");
    private_from = std::min<uint64_t>(private_from, s.selected_at);
    size_t at = 0;
    for (Chunk& chunk : chunks_) {
      const auto end = static_cast<int64_t>(chunk.start + chunk.segment->length);
      const auto start = static_cast<int64_t>(chunk.start);
      for (; at < s.length && s.values[at] >= start && s.values[at] < end; ++at) {
        check(!chunk.segment->exact && chunk.segment->selected_from && chunk.taken < s.values[at],
              "a token is selected twice, or where none is selected");
        check(s.selected_at >= end, "tokens are selected by what stands before them");
        chunk.taken = s.values[at];
      }
    }
    check(at == s.length, "a selected token is no chunk's");
    blocks += (s.slots + uint64_t{page_slots_} - 1) / page_slots_;
  }

  const SavedSession& saved_;
  const kv::CanonicalRef& anchor_;
  const uint32_t page_slots_;
  std::vector<Chunk> chunks_;
};

int32_t token_at(const std::vector<Segment>& segments, int32_t position) {
  for (const Segment& s : segments) {
    const int64_t at = int64_t{position} - s.span.frame_start;
    if (s.kind == SegmentKind::shared && at >= s.skip && at < int64_t{s.skip} + s.length) {
      return s.canonical->tokens[static_cast<size_t>(at)];
    }
  }
  fail(Status::internal, "a selected token stands in no chunk");
}

// Everything of a segment but its KV. It begins at the session's token `at`.
Segment segment_of(const SavedSegment& saved, const std::vector<kv::CanonicalRef>& chunks,
                   const kv::CanonicalRef& anchor, const std::vector<Segment>& before, int32_t at,
                   int32_t page_slots) {
  Segment s;
  s.kind = saved.kind;
  s.exact = saved.exact;
  s.repairs = saved.repairs;
  s.reopened = saved.reopened;
  s.selected_from = saved.selected_from;
  s.selected_at = saved.selected_at;
  s.length = saved.length;
  s.span.logical_start = at;
  if (saved.text != SavedSegment::kNoText) {
    s.canonical = saved.text == SavedSegment::kAnchor ? anchor : chunks[saved.text];
    s.span.frame_start = at - static_cast<int32_t>(saved.skip);
  }
  switch (saved.kind) {
    case SegmentKind::text:
      s.tokens = saved.values;
      break;
    case SegmentKind::anchor:
    case SegmentKind::shared:
      s.skip = saved.skip;
      s.span.logical_start =
          s.span.frame_start + static_cast<int32_t>(saved.skip) / page_slots * page_slots;
      break;
    case SegmentKind::recomputed: {
      const auto first = s.canonical->tokens.begin() + saved.skip;
      s.tokens.assign(first, first + saved.length);
      break;
    }
    case SegmentKind::selected:
      s.span.logical_start = 0;
      s.span.positions = saved.values;
      for (const int32_t position : saved.values) s.tokens.push_back(token_at(before, position));
      break;
  }
  return s;
}

}  // namespace

void Context::check_base(const SavedBase& saved) const {
  const SavedBase own = saved_base();
  const auto differ = [](const std::string& what) {
    fail(Status::version_mismatch,
         "the session was saved with " + what + "; restore it in a context of the same kind");
  };
  const auto numbers = [](uint64_t theirs, uint64_t ours) {
    return std::to_string(theirs) + " instead of " + std::to_string(ours);
  };
  if (!std::ranges::equal(saved.model, own.model)) differ("another model");
  if (saved.math != own.math) differ("math mode " + numbers(saved.math, own.math));
  if (saved.kv_type != own.kv_type) differ("another kv_type");
  if (saved.page_slots != own.page_slots) {
    differ("page_size " + numbers(saved.page_slots, own.page_slots));
  }
  if (saved.layout != own.layout || saved.page_bytes != own.page_bytes) {
    differ("page layout '" + saved.layout + "' instead of '" + own.layout + "'");
  }
  if (saved.anchor != own.anchor) differ("another anchor");
  if (saved.chunks != own.chunks) differ("another primer");
}

// Whether this can be a session of this context. Returns the blocks that it takes.
uint64_t Context::check_saved(const SavedSession& saved) const {
  check_options(saved.options);
  const auto vocabulary = static_cast<int32_t>(model_->hyperparameters().vocabulary);
  const auto check_tokens = [&](const std::vector<int32_t>& tokens) {
    check(std::ranges::all_of(tokens, [&](int32_t t) { return t >= 0 && t < vocabulary; }),
          "a token is not in the vocabulary");
  };
  for (const std::vector<int32_t>& tokens : saved.chunks) {
    check(!tokens.empty(), "a chunk is empty");
    check_tokens(tokens);
  }
  Checker checker(saved, anchor_, pool_->page_slots());
  for (const SavedSegment& segment : saved.segments) {
    checker.add(segment);
    if (segment.kind == SegmentKind::text) check_tokens(segment.values);
  }
  check(saved.settled <= checker.tokens, "more is settled than it has");
  check(saved.private_from <= checker.private_from, "what is private is called shared");
  check(saved.pages.size() % pool_->block_bytes() == 0 &&
            saved.pages.size() / pool_->block_bytes() == checker.blocks,
        "pages are missing, or too many");
  if (checker.tokens > max_session_tokens_) {
    fail(Status::capacity, "the saved session has " + std::to_string(checker.tokens) +
                               " tokens; sessions of this context have room for " +
                               std::to_string(max_session_tokens_));
  }
  for (const std::vector<int32_t>& tokens : saved.chunks) check_chunk(tokens.size());
  return checker.blocks;
}

// Fills an empty session, its pages not yet written. What was ready of chunks and the anchor is
// taken when the next answer begins.
void Context::take_saved(const SavedSession& saved, SessionState& session) {
  std::vector<kv::CanonicalRef> chunks;
  canonicals_.sweep();
  for (const std::vector<int32_t>& tokens : saved.chunks) {
    chunks.push_back(canonicals_.intern(kv::CanonicalKind::chunk,
                                        kv::identify(chunk_base_, kv::CanonicalKind::chunk, tokens),
                                        tokens, base_tokens(kv::CanonicalKind::chunk)));
  }
  const uint32_t page_slots = pool_->page_slots();
  for (const SavedSegment& from : saved.segments) {
    Segment segment =
        segment_of(from, chunks, anchor_, session.segments, static_cast<int32_t>(session.tokens),
                   static_cast<int32_t>(page_slots));
    for (uint32_t slots = from.slots; slots > 0;) {
      const uint32_t filled = std::min(slots, page_slots);
      segment.span.append(obtain_block(), filled);
      slots -= filled;
    }
    for (Segment& chunk : session.segments) {
      if (chunk.kind != SegmentKind::shared) continue;
      for (const int32_t position : segment.span.positions) {
        const int64_t at = int64_t{position} - chunk.span.frame_start;
        chunk.replaced += at >= chunk.skip && at < int64_t{chunk.skip} + chunk.length;
      }
    }
    (segment.exact ? session.ready_exact : session.ready_approximate) += segment.ready();
    if (!segment.overlay()) session.tokens += segment.length;
    session.segments.push_back(std::move(segment));
  }
  session.settled = saved.settled;
  session.private_from = saved.private_from;
  session.asks = saved.asks;
  session.prefix_open = saved.private_from == SessionState::kNone;
}

SessionRef Context::restore(std::span<const uint8_t> bytes) {
  const SavedSession saved = decode(bytes);
  check_base(saved.base);
  const uint64_t need = check_saved(saved);
  std::unique_lock guard(lock_);
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  check_available(need);
  // Goes before the lock does, if the rest fails.
  auto session = std::make_shared<SessionState>(saved.options);
  take_saved(saved, *session);
  {
    const PageAccess pages(*this, guard);
    const uint8_t* at = saved.pages.data();
    for (const Segment& segment : session->segments) {
      for (const kv::BlockRef& block : segment.span.blocks) {
        pool_->write(*block, at);
        at += pool_->block_bytes();
      }
    }
  }
  sessions_.push_back(session);
  return session;
}

}  // namespace tessera::engine
