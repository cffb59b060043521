// The threads that read files, without an engine.
#include "runtime/engine/disk_tier.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <semaphore>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/kv/chunk_sample.hpp"

namespace tessera::engine::test {
namespace {

namespace fs = std::filesystem;

// Of any size, some missing, some damaged, into buffers or into pages: in the order asked.
TEST(DiskTier, FilesComeInTheOrderAsked) {
  constexpr uint64_t kFiles = 100;
  const tessera::test::TempFolder temp;
  const std::string folder = temp.file("cache");
  std::counting_semaphore read(0);
  DiskTier tier(folder, uint64_t{1} << 30,
                {[&] { read.release(); }, [] { return std::vector<kv::Identity>(); }, {}});
  kv::test::Random random(1);
  std::vector<kv::ChunkHead> heads;
  std::vector<kv::Loaded> expected;
  for (uint64_t i = 0; i < kFiles; ++i) {
    // The other thread reads many small ones while one reads a large one.
    const uint64_t bytes =
        i % 50 == 20 ? 20'000'000 : 1 + random.below(i % 4 == 0 ? 300'000 : 3000);
    heads.push_back(kv::test::sample_head(i, 40, bytes));
    const kv::ChunkHead& head = heads.back();
    const bool missing = i % 8 == 1, damaged = i % 8 == 3;
    expected.push_back(missing   ? kv::Loaded::missing
                       : damaged ? kv::Loaded::damaged
                                 : kv::Loaded::good);
    if (missing) continue;
    std::vector<uint8_t> file = kv::test::sample_pages(head);
    tier.folder().publish(head, file, {});
    const std::string name = kv::file_name(head.kind, head.identity, head.tokens.size());
    if (damaged) fs::resize_file(fs::path(folder) / name, head.file_bytes() - 1);
  }
  std::vector<std::vector<uint8_t>> pages(kFiles);
  for (uint64_t i = 0; i < kFiles; i += 2) pages[i].resize(heads[i].page_bytes);
  for (uint64_t i = 0; i < kFiles; ++i) {
    DiskTier::Reading reading;
    reading.ticket = i;
    reading.wanted = heads[i];
    if (i % 2 == 0) reading.pages = {pages[i]};
    tier.load(std::move(reading));
  }
  std::vector<DiskTier::Reading> taken;
  while (taken.size() < kFiles) {
    read.acquire();
    for (auto one = tier.take_loaded(); !one.empty(); one = tier.take_loaded()) {
      taken.push_back(std::move(one.front()));
    }
  }
  for (uint64_t i = 0; i < kFiles; ++i) {
    ASSERT_EQ(taken[i].ticket, i);
    EXPECT_EQ(taken[i].how, expected[i]);
    if (taken[i].how != kv::Loaded::good) continue;
    const std::span<const uint8_t> got = i % 2 == 0 ? pages[i] : taken[i].file.bytes();
    const std::vector<uint8_t> file = kv::test::sample_pages(heads[i]);
    const auto want = std::span(file).subspan(heads[i].pages_offset(), heads[i].page_bytes);
    EXPECT_TRUE(kv::test::same(got, want));
  }
  const auto damaged = std::ranges::count(expected, kv::Loaded::damaged);
  EXPECT_EQ(tier.counts().load_failures, static_cast<uint64_t>(damaged));
}

}  // namespace
}  // namespace tessera::engine::test
