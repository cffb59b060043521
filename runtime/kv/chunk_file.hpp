// The file of one canonical text: its tokens, what it was encoded behind, and the bytes of its
// pages. docs/chunk-files.md. Knows bytes, no folder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/kv/canonical_store.hpp"

struct XXH3_state_s;

namespace tessera::kv {

inline constexpr uint32_t kChunkFileVersion = 1;
inline constexpr uint64_t kChunkHeadBytes = 72;  // before the tokens
inline constexpr uint64_t kChunkSumBytes = 16;   // behind the pages
inline constexpr uint64_t kMostChunkTokens = uint64_t{1} << 24;
inline constexpr uint64_t kMostChunkPageBytes = uint64_t{1} << 40;

// All that a file says besides its pages. A file is of use only where all of it is as wanted.
struct ChunkHead {
  CanonicalKind kind = CanonicalKind::chunk;
  Identity identity;
  // Of all that the pages depend on besides the tokens: weights, tokenizer, arithmetic, layout, and
  // every text before this one. Not made from `identity`, so that both would have to collide.
  Identity fingerprint;
  std::vector<int32_t> tokens;
  uint64_t page_bytes = 0;  // of all pages together

  bool operator==(const ChunkHead&) const = default;
  // Where the pages begin in the file.
  uint64_t pages_offset() const { return kChunkHeadBytes + tokens.size() * sizeof(int32_t); }
  uint64_t file_bytes() const { return pages_offset() + page_bytes + kChunkSumBytes; }
};

// A hash of `settings` and of the tokens of `before`, text by text.
Identity fingerprint_of(std::string_view settings, std::span<const CanonicalRef> before);

// Writes head and checksums around the pages, which are in place. `file` has file_bytes() bytes.
void seal(const ChunkHead& head, std::span<uint8_t> file);

// What the first bytes of a file of `file_bytes` bytes say; none where they are damaged. As long as
// `start` is too short to tell, none and the bytes needed in `needed`; else 0 there.
std::optional<ChunkHead> read_head(std::span<const uint8_t> start, uint64_t file_bytes,
                                   uint64_t& needed);

// The checksum of a file that comes in parts, all before the checksum at its end.
class FileSum {
 public:
  FileSum();  // throws std::bad_alloc
  void add(std::span<const uint8_t> part) noexcept;
  bool operator==(std::span<const uint8_t, kChunkSumBytes> end) const noexcept;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const noexcept;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

enum class ChunkCheck : uint8_t {
  good,
  damaged,
  other,  // whole, but of something else whose identity is the same
};
// Of a file of wanted.file_bytes() bytes. `start`: its first wanted.pages_offset() bytes; `whole`:
// whether its checksum is right.
ChunkCheck check(const ChunkHead& wanted, std::span<const uint8_t> start, bool whole);

}  // namespace tessera::kv
