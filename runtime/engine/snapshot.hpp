// The bytes of a saved session: docs/session-format.md. Knows lengths and the checksum, not what a
// session may look like; restore.cpp sees to that.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/session_state.hpp"

namespace tessera::engine {

// What the KV of a session depends on besides its tokens.
struct SavedBase {
  uint64_t model[2] = {};
  uint32_t math = 0;                 // MathMode
  uint32_t kv_type = 0;              // KvType
  uint32_t page_slots = 0;           // tokens a page
  std::string layout;                // Backend::page_layout_name
  std::vector<uint64_t> page_bytes;  // by layer group
  kv::Identity anchor;               // fingerprint of what a primer is encoded behind
  kv::Identity chunks;               // of what chunks are encoded behind: anchor and primer
};

struct SavedSegment {
  static constexpr uint32_t kNoText = UINT32_MAX, kAnchor = UINT32_MAX - 1;

  SegmentKind kind = SegmentKind::text;
  bool exact = true;
  bool repairs = false;
  bool reopened = false;
  bool selected_from = false;
  uint32_t text = kNoText;  // canonical: of SavedSession::chunks, or kAnchor
  uint32_t skip = 0;        // where in that text it begins
  uint32_t length = 0;
  uint32_t slots = 0;  // ready, of those computed here; their pages are saved
  uint32_t selected_at = 0;
  std::vector<int32_t> values;  // text: tokens; selected: positions
};

struct SavedSession {
  SavedBase base;
  SessionOptions options;
  uint64_t settled = 0;
  uint64_t private_from = 0;
  bool asks = false;
  std::vector<std::vector<int32_t>> chunks;  // tokens, each once
  std::vector<SavedSegment> segments;
  std::span<const uint8_t> pages;  // decoded: in the order of segments, blocks, layer groups
};

// All but the pages, of which `page_bytes` bytes are to follow.
std::vector<uint8_t> encode(const SavedSession& session, uint64_t page_bytes);
// Writes the checksum, once the pages are there.
void seal(std::span<uint8_t> bytes);

// Views `bytes`. Throws corrupt_file and, for another version of the format, version_mismatch.
SavedSession decode(std::span<const uint8_t> bytes);

}  // namespace tessera::engine
