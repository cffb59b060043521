#include "runtime/kv/chunk_file.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace tessera::kv {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, as pages are");

constexpr char kMagic[8] = {'T', 'S', 'R', 'C', 'H', 'U', 'N', 'K'};

struct Head {
  char magic[8];
  uint32_t version;
  uint32_t kind;
  uint64_t identity[2];
  uint64_t fingerprint[2];
  uint64_t tokens;
  uint64_t page_bytes;
  uint64_t sum;  // of all before it and of the tokens
};
static_assert(sizeof(Head) == kChunkHeadBytes && offsetof(Head, sum) == 64);

uint64_t head_sum(const Head& head, std::span<const uint8_t> tokens) {
  const XXH64_hash_t first = XXH3_64bits(&head, offsetof(Head, sum));
  return XXH3_64bits_withSeed(tokens.data(), tokens.size(), first);
}

// As it stands in the file.
std::array<uint64_t, 2> words_of(const XXH128_hash_t& sum) {
  return {sum.low64, sum.high64};
}

}  // namespace

Identity fingerprint_of(std::string_view settings, std::span<const CanonicalRef> before) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (!state) throw std::bad_alloc();
  XXH3_128bits_reset(state.get());
  const auto add = [&](const void* data, uint64_t bytes) {
    XXH3_128bits_update(state.get(), &bytes, sizeof bytes);
    XXH3_128bits_update(state.get(), data, bytes);
  };
  add(settings.data(), settings.size());
  for (const CanonicalRef& text : before) {
    add(text->tokens.data(), text->tokens.size() * sizeof(int32_t));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return {hash.low64, hash.high64};
}

void seal(const ChunkHead& head, std::span<uint8_t> file) {
  Head out{};
  std::memcpy(out.magic, kMagic, sizeof kMagic);
  out.version = kChunkFileVersion;
  out.kind = static_cast<uint32_t>(head.kind);
  out.identity[0] = head.identity.low;
  out.identity[1] = head.identity.high;
  out.fingerprint[0] = head.fingerprint.low;
  out.fingerprint[1] = head.fingerprint.high;
  out.tokens = head.tokens.size();
  out.page_bytes = head.page_bytes;
  const uint64_t token_bytes = head.tokens.size() * sizeof(int32_t);
  const auto tokens = std::as_bytes(std::span(head.tokens));
  std::ranges::copy(tokens, std::as_writable_bytes(file.subspan(kChunkHeadBytes)).begin());
  out.sum = head_sum(out, file.subspan(kChunkHeadBytes, token_bytes));
  std::memcpy(file.data(), &out, sizeof out);
  const auto sum = words_of(XXH3_128bits(file.data(), file.size() - kChunkSumBytes));
  std::memcpy(file.data() + file.size() - kChunkSumBytes, sum.data(), kChunkSumBytes);
}

std::optional<ChunkHead> read_head(std::span<const uint8_t> start, uint64_t file_bytes,
                                   uint64_t& needed) {
  needed = 0;
  if (file_bytes < kChunkHeadBytes + kChunkSumBytes) return std::nullopt;
  if (start.size() < kChunkHeadBytes) {
    needed = kChunkHeadBytes;
    return std::nullopt;
  }
  Head head;
  std::memcpy(&head, start.data(), sizeof head);
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0 || head.version != kChunkFileVersion ||
      head.kind > static_cast<uint32_t>(CanonicalKind::chunk) || head.tokens > kMostChunkTokens ||
      head.page_bytes > kMostChunkPageBytes) {
    return std::nullopt;
  }
  const uint64_t token_bytes = head.tokens * sizeof(int32_t);
  if (file_bytes != kChunkHeadBytes + token_bytes + head.page_bytes + kChunkSumBytes) {
    return std::nullopt;
  }
  if (start.size() < kChunkHeadBytes + token_bytes) {
    needed = kChunkHeadBytes + token_bytes;
    return std::nullopt;
  }
  const std::span<const uint8_t> tokens = start.subspan(kChunkHeadBytes, token_bytes);
  if (head.sum != head_sum(head, tokens)) return std::nullopt;
  ChunkHead out;
  out.kind = static_cast<CanonicalKind>(head.kind);
  out.identity = {head.identity[0], head.identity[1]};
  out.fingerprint = {head.fingerprint[0], head.fingerprint[1]};
  out.tokens.resize(head.tokens);
  if (token_bytes > 0) std::memcpy(out.tokens.data(), tokens.data(), token_bytes);
  out.page_bytes = head.page_bytes;
  return out;
}

FileSum::FileSum() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(state_.get());
}

void FileSum::Free::operator()(XXH3_state_s* state) const noexcept {
  XXH3_freeState(state);
}

void FileSum::add(std::span<const uint8_t> part) noexcept {
  XXH3_128bits_update(state_.get(), part.data(), part.size());
}

bool FileSum::operator==(std::span<const uint8_t, kChunkSumBytes> end) const noexcept {
  const auto sum = words_of(XXH3_128bits_digest(state_.get()));
  return std::memcmp(sum.data(), end.data(), kChunkSumBytes) == 0;
}

ChunkCheck check(const ChunkHead& wanted, std::span<const uint8_t> start, bool whole) {
  uint64_t needed = 0;
  const std::optional<ChunkHead> found = read_head(start, wanted.file_bytes(), needed);
  if (!found || !whole) return ChunkCheck::damaged;
  if (*found == wanted) return ChunkCheck::good;
  // A file under a name that its content does not have was renamed by somebody.
  const bool named = found->kind == wanted.kind && found->identity == wanted.identity;
  return named ? ChunkCheck::other : ChunkCheck::damaged;
}

}  // namespace tessera::kv
