#include "runtime/kv/chunk_file.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/kv/chunk_sample.hpp"

namespace tessera::kv::test {
namespace {

TEST(ChunkFile, SaysWhatWasSealed) {
  for (const uint64_t tokens : {0u, 1u, 40u, 5000u}) {
    for (const uint64_t page_bytes : {0u, 1u, 3000u}) {
      const ChunkHead head = sample_head(tokens, tokens, page_bytes);
      const std::vector<uint8_t> pages = sample_pages(head), file = sample_file(head);
      for (const size_t part : {1u, 700u, 1u << 20}) {
        EXPECT_EQ(check_parts(head, file, part), ChunkCheck::good) << part;
      }
      EXPECT_TRUE(same(std::span(file).subspan(head.pages_offset(), page_bytes),
                       std::span(pages).subspan(head.pages_offset(), page_bytes)));
      uint64_t needed = 0;
      EXPECT_EQ(read_head(file, file.size(), needed), head);
    }
  }
}

// Another writer of this format must put the same bytes there: docs/chunk-files.md.
TEST(ChunkFile, TheLayoutIsTheOneDocumented) {
  ChunkHead head = sample_head(3, 2, 5);
  head.kind = CanonicalKind::primer;
  head.tokens = {1, -2};
  const std::vector<uint8_t> file = sample_file(head);
  const auto number = [&](size_t at, size_t bytes) {
    uint64_t value = 0;
    std::memcpy(&value, file.data() + at, bytes);
    return value;
  };
  EXPECT_EQ(file.size(), 72u + 8 + 5 + 16);
  EXPECT_EQ(std::memcmp(file.data(), "TSRCHUNK", 8), 0);
  EXPECT_EQ(number(8, 4), 1u);
  EXPECT_EQ(number(12, 4), 1u);
  EXPECT_EQ(number(16, 8), head.identity.low);
  EXPECT_EQ(number(24, 8), head.identity.high);
  EXPECT_EQ(number(32, 8), 77u);
  EXPECT_EQ(number(40, 8), 88u);
  EXPECT_EQ(number(48, 8), 2u);
  EXPECT_EQ(number(56, 8), 5u);
  EXPECT_EQ(number(72, 4), 1u);
  EXPECT_EQ(number(76, 4), uint64_t{0xfffffffe});
}

// A head is read a part at a time; nothing is believed that the file's size does not bear out.
TEST(ChunkFile, AHeadAsksForTheBytesItNeeds) {
  const ChunkHead head = sample_head(4);
  const std::vector<uint8_t> file = sample_file(head);
  const auto first = [&](uint64_t bytes) { return std::span(file).first(bytes); };
  uint64_t needed = 0;
  EXPECT_FALSE(read_head(first(10), file.size(), needed));
  EXPECT_EQ(needed, kChunkHeadBytes);
  EXPECT_FALSE(read_head(first(kChunkHeadBytes), file.size(), needed));
  EXPECT_EQ(needed, head.pages_offset());
  EXPECT_EQ(read_head(first(head.pages_offset()), file.size(), needed), head);
  EXPECT_FALSE(read_head(first(kChunkHeadBytes), file.size() + 1, needed));
  EXPECT_EQ(needed, 0u);
}

TEST(ChunkFile, HugeLengthsAreRefused) {
  const ChunkHead head = sample_head(5);
  for (const size_t at : {48u, 56u}) {  // tokens, bytes of pages
    for (const uint64_t length :
         {uint64_t{1} << 24, (uint64_t{1} << 24) + 1, uint64_t{1} << 62, ~uint64_t{0},
          ~uint64_t{0} - 3000, uint64_t{1} << 40, (uint64_t{1} << 40) + 1}) {
      std::vector<uint8_t> file = sample_file(head);
      std::memcpy(file.data() + at, &length, sizeof length);
      uint64_t needed = 1;
      EXPECT_FALSE(read_head(file, file.size(), needed));
      EXPECT_EQ(needed, 0u) << length;
      EXPECT_EQ(check_parts(head, file), ChunkCheck::damaged);
    }
  }
}

TEST(ChunkFile, OtherContentIsNotTaken) {
  const ChunkHead head = sample_head(6);
  const std::vector<uint8_t> file = sample_file(head);
  const auto with = [&](auto change) {
    ChunkHead wanted = head;
    change(wanted);
    return check_parts(wanted, file);
  };
  EXPECT_EQ(with([](ChunkHead&) {}), ChunkCheck::good);
  EXPECT_EQ(with([](ChunkHead& h) { h.tokens[7] ^= 1; }), ChunkCheck::other) << "a collision";
  const auto more_tokens = [](ChunkHead& h) {  // and a file of the same size
    h.tokens.push_back(1);
    h.page_bytes -= sizeof(int32_t);
  };
  EXPECT_EQ(with(more_tokens), ChunkCheck::other);
  const auto fewer_tokens = [](ChunkHead& h) {
    h.tokens.pop_back();
    h.page_bytes += sizeof(int32_t);
  };
  EXPECT_EQ(with(fewer_tokens), ChunkCheck::damaged) << "its head goes on behind the part read";
  EXPECT_EQ(with([](ChunkHead& h) { ++h.identity.low; }), ChunkCheck::damaged) << "renamed";
  EXPECT_EQ(with([](ChunkHead& h) { h.kind = CanonicalKind::anchor; }), ChunkCheck::damaged);
}

TEST(ChunkFile, TruncatedAnywhere) {
  const ChunkHead head = sample_head(7, 9, 200);
  std::vector<uint8_t> file = sample_file(head);
  uint64_t needed = 0;
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    EXPECT_FALSE(read_head(std::span(file).first(bytes), bytes, needed)) << bytes;
    EXPECT_EQ(needed, 0u) << bytes;
  }
  file.push_back(0);
  EXPECT_FALSE(read_head(file, file.size(), needed));
  EXPECT_EQ(needed, 0u);
}

TEST(ChunkFile, AnyBitFlipped) {
  const ChunkHead head = sample_head(8, 9, 200);
  std::vector<uint8_t> file = sample_file(head);
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    file[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_EQ(check_parts(head, file), ChunkCheck::damaged) << "bit " << bit;
    file[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  EXPECT_EQ(check_parts(head, file), ChunkCheck::good);
}

TEST(ChunkFile, RandomBytes) {
  Random random(9);
  const ChunkHead head = sample_head(9);
  const std::vector<uint8_t> good = sample_file(head);
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint8_t> file(random.one_in(2) ? good.size() : random.below(2 * good.size()));
    for (uint8_t& byte : file) byte = static_cast<uint8_t>(random.next());
    if (random.one_in(2) && file.size() >= 16) {
      std::memcpy(file.data(), good.data(), 16);  // past the magic
    }
    uint64_t needed = 0;
    EXPECT_FALSE(read_head(file, file.size(), needed));
    EXPECT_EQ(needed, 0u);
    file.resize(good.size());
    EXPECT_EQ(check_parts(head, file), ChunkCheck::damaged);
  }
}

TEST(FingerprintOf, EverythingCounts) {
  const auto text = [](std::vector<int32_t> tokens) {
    auto entry = std::make_shared<Canonical>();
    entry->tokens = std::move(tokens);
    return entry;
  };
  using Texts = std::vector<CanonicalRef>;
  const std::vector<Identity> all = {
      fingerprint_of("a", Texts{}),
      fingerprint_of("b", Texts{}),
      fingerprint_of("", Texts{}),
      fingerprint_of("a", Texts{text({1, 2})}),
      fingerprint_of("a", Texts{text({1, 3})}),
      fingerprint_of("a", Texts{text({1}), text({2})}),
      fingerprint_of("a", Texts{text({2}), text({1})}),
      fingerprint_of("a", Texts{text({1, 2}), text({})}),
  };
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(all[i] == all[j]) << i << " and " << j;
  }
  EXPECT_EQ(all[3], fingerprint_of("a", Texts{text({1, 2})}));
}

}  // namespace
}  // namespace tessera::kv::test
