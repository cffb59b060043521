// Chunk files for the tests of this folder.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/kv/chunk_file.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::kv::test {

using tessera::test::Random;

inline ChunkHead sample_head(uint64_t seed, uint64_t tokens = 40, uint64_t page_bytes = 3000) {
  Random random(seed);
  ChunkHead head;
  head.identity = {random.next(), random.next()};
  head.fingerprint = {77, 88};
  for (uint64_t i = 0; i < tokens; ++i) {
    head.tokens.push_back(static_cast<int32_t>(random.below(49152)));
  }
  head.page_bytes = page_bytes;
  return head;
}

// Pages that depend on the head, and nothing else yet.
inline std::vector<uint8_t> sample_pages(const ChunkHead& head) {
  std::vector<uint8_t> file(head.file_bytes());
  Random random(head.identity.low);
  for (uint8_t& byte : std::span(file).subspan(head.pages_offset(), head.page_bytes)) {
    byte = static_cast<uint8_t>(random.next());
  }
  return file;
}

inline std::vector<uint8_t> sample_file(const ChunkHead& head) {
  std::vector<uint8_t> file = sample_pages(head);
  seal(head, file);
  return file;
}

// As a folder checks a file of the right size, which comes in parts.
inline ChunkCheck check_parts(const ChunkHead& wanted, std::span<const uint8_t> file,
                              size_t part = 700) {
  const std::span<const uint8_t> before = file.first(file.size() - kChunkSumBytes);
  FileSum sum;
  for (size_t at = 0; at < before.size(); at += part) {
    sum.add(before.subspan(at, std::min(part, before.size() - at)));
  }
  return check(wanted, file.first(wanted.pages_offset()), sum == file.last<kChunkSumBytes>());
}

inline bool same(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return std::ranges::equal(a, b);
}

}  // namespace tessera::kv::test
