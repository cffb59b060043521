// A piece of a session's context: its tokens and, as far as it is ready, its KV.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/kv/canonical_store.hpp"
#include "runtime/kv/span.hpp"

namespace tessera::engine {

enum class SegmentKind : uint8_t {
  text,        // computed by the session; keys in frame 0
  anchor,      // the context's anchor, taken as encoded; frame 0
  shared,      // a chunk, or what follows its head, taken as encoded; keys in the chunk's frame
  recomputed,  // a chunk, its head or its last token, computed in place; the chunk's frame
  selected,  // tokens of chunks before it, computed once more for the question behind it; frame 0.
             // An overlay: the tokens are the chunks', whose slots of them are hidden
};

struct Segment {
  SegmentKind kind = SegmentKind::text;
  std::vector<int32_t> tokens;  // text, recomputed, selected
  kv::CanonicalRef canonical;   // anchor, shared, recomputed
  uint32_t skip = 0;           // shared: tokens of the canonical text that stand in segments before
  uint32_t length = 0;         // tokens in all
  uint32_t replaced = 0;       // shared: of those, hidden because they are selected
  kv::Span span;               // computed here: span.slots of the tokens are ready, in order
  uint32_t published = 0;      // blocks of `span` that the prefix cache knows
  bool exact = true;           // its KV is what an ordinary prompt would have
  bool pinned = false;         // this segment holds a pin on `canonical`
  bool attached = false;       // anchor, shared: span is the canonical's KV
  bool repairs = false;        // recomputed: the head of a chunk
  bool selected_from = false;  // shared: a question has chosen among its tokens
  bool reopened = false;       // recomputed: the last token of what is in front, for its logits
  uint32_t selected_at = 0;    // selected, and shared that was selected from: the position where
                               // that question began

  bool computed_here() const { return kind != SegmentKind::anchor && kind != SegmentKind::shared; }
  bool overlay() const { return kind == SegmentKind::selected; }
  // Tokens that have KV in this segment.
  uint32_t ready() const { return computed_here() ? span.slots : attached ? length - replaced : 0; }
  uint32_t pending() const { return length - replaced - ready(); }
  // Tokens of the session that stand here.
  std::span<const int32_t> text() const {
    if (overlay()) return {};
    return computed_here() ? std::span(tokens).first(length)
                           : std::span(canonical->tokens).subspan(skip, length);
  }
};

}  // namespace tessera::engine
