// A session as bytes: what it is made of, and the KV of the pages that it computed. Chunks and the
// anchor are saved as tokens.
#include <algorithm>
#include <map>

#include "runtime/engine/page_access.hpp"

namespace tessera::engine {
namespace {

// Chunks are saved once, whatever number of segments they have.
class ChunkList {
 public:
  explicit ChunkList(SavedSession& saved) : saved_(saved) {}

  uint32_t add(const kv::Canonical& text) {
    if (text.kind == kv::CanonicalKind::anchor) return SavedSegment::kAnchor;
    const auto [place, fresh] = places_.emplace(&text, static_cast<uint32_t>(saved_.chunks.size()));
    if (fresh) saved_.chunks.push_back(text.tokens);
    return place->second;
  }

 private:
  SavedSession& saved_;
  std::map<const kv::Canonical*, uint32_t> places_;
};

SavedSegment saved_segment(const Segment& segment, ChunkList& chunks) {
  SavedSegment saved;
  saved.kind = segment.kind;
  saved.exact = segment.exact;
  saved.repairs = segment.repairs;
  saved.reopened = segment.reopened;
  saved.selected_from = segment.selected_from;
  if (segment.canonical) {
    saved.text = chunks.add(*segment.canonical);
    saved.skip = segment.skip;
  }
  if (segment.kind == SegmentKind::recomputed) {
    saved.skip = static_cast<uint32_t>(segment.span.logical_start - segment.span.frame_start);
  }
  saved.length = segment.length;
  if (segment.computed_here()) saved.slots = segment.span.slots;
  saved.selected_at = segment.selected_at;
  if (segment.kind == SegmentKind::text) saved.values = segment.tokens;
  if (segment.overlay()) saved.values = segment.span.positions;
  return saved;
}

SavedSession saved_session(const SessionState& session) {
  SavedSession saved;
  saved.options = session.options;
  saved.settled = session.settled;
  saved.private_from = session.private_from;
  saved.asks = session.asks;
  ChunkList chunks(saved);
  for (const Segment& segment : session.segments) {
    saved.segments.push_back(saved_segment(segment, chunks));
  }
  return saved;
}

}  // namespace

SavedBase Context::saved_base() const {
  SavedBase base;
  base.model[0] = model_->fingerprint().low;
  base.model[1] = model_->fingerprint().high;
  base.math = static_cast<uint32_t>(model_->math());
  const KvLayout& layout = pool_->layout();
  base.kv_type = static_cast<uint32_t>(layout.type);
  base.page_slots = layout.page_slots;
  base.layout = model_->backend().page_layout_name(layout);
  for (uint32_t g = 0; g < layout.groups.size(); ++g) {
    base.page_bytes.push_back(model_->backend().page_bytes(layout, g));
  }
  base.anchor = fingerprints_[static_cast<size_t>(kv::CanonicalKind::primer)];
  base.chunks = fingerprints_[static_cast<size_t>(kv::CanonicalKind::chunk)];
  return base;
}

uint64_t Context::save(SessionState& session, uint8_t* out, uint64_t capacity) {
  const SavedBase base = saved_base();
  std::unique_lock guard(lock_);
  check_idle(session);
  SavedSession saved = saved_session(session);
  saved.base = base;
  std::vector<kv::BlockRef> blocks;
  for (const Segment& segment : session.segments) {
    if (!segment.computed_here()) continue;
    const auto used = static_cast<ptrdiff_t>(pool_->blocks_for(segment.span.slots));
    const std::vector<kv::BlockRef>& own = segment.span.blocks;
    blocks.insert(blocks.end(), own.begin(), own.begin() + used);
  }
  const std::vector<uint8_t> head = encode(saved, blocks.size() * pool_->block_bytes());
  const uint64_t size = head.size() + blocks.size() * pool_->block_bytes();
  if (capacity < size) return size;
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  {
    const PageAccess pages(*this, guard);
    uint8_t* at = std::ranges::copy(head, out).out;
    for (const kv::BlockRef& block : blocks) {
      pool_->read(*block, at);
      at += pool_->block_bytes();
    }
  }
  if (session.closed) fail(Status::cancelled, "the session was destroyed while it was saved");
  blocks.clear();
  guard.unlock();
  seal({out, size});
  return size;
}

}  // namespace tessera::engine
