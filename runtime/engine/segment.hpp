// A piece of a session's context: its tokens and, as far as it is ready, its KV.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/kv/canonical_store.hpp"
#include "runtime/kv/span.hpp"

namespace tessera::engine {

enum class SegmentKind : uint8_t {
  text,        // computed by the session; keys in frame 0
  anchor,      // the context's anchor, taken as encoded; frame 0
  shared,      // a chunk taken as encoded; keys in the chunk's frame
  recomputed,  // a chunk, or the last token of one, computed in place; the chunk's frame
};

struct Segment {
  SegmentKind kind = SegmentKind::text;
  std::vector<int32_t> tokens;  // text, recomputed
  kv::CanonicalRef canonical;   // anchor, shared, recomputed
  uint32_t length = 0;          // tokens in all
  kv::Span span;                // span.slots of them are ready, in order
  uint32_t published = 0;       // blocks of `span` that the prefix cache knows
  bool exact = true;            // its KV is what an ordinary prompt would have
  bool pinned = false;          // this segment holds a pin on `canonical`
  bool attached = false;        // anchor, shared: span is the canonical's KV

  bool computed_here() const {
    return kind == SegmentKind::text || kind == SegmentKind::recomputed;
  }
  uint32_t pending() const { return length - span.slots; }
};

}  // namespace tessera::engine
