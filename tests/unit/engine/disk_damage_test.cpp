// Chunk files that are damaged or another model's are encoded again.

#include <algorithm>

#include "tests/fuzz/random.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/disk_fixture.hpp"
#include "tests/unit/engine/probe.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

class DiskDamage : public DiskFixture {};
TESSERA_ON_EACH_DEVICE(DiskDamage);
class FullDiskDamage : public DiskFixture {};
TESSERA_ON_EACH_DEVICE(FullDiskDamage);

TEST_P(DiskDamage, AFileOfAnotherModelUnderOurName) {
  const TempFolder models;
  const std::string other_path = models.file("other.gguf");
  TinyModel tiny;
  tiny.context = 8192;
  tiny.seed = 2;
  write_tiny_model(other_path, tiny);
  const std::string folder = temp_.file("other");
  {
    const tsr::Model other = load_model(GetParam(), other_path);
    const tsr::Context context(other, with(folder));
    ask(context);
    wait_stored(context, kChunks + 2);
  }
  warm();
  const auto tokens = [](const fs::path& file) {
    const std::string name = file.filename();
    return name.substr(name.rfind('-'));
  };
  for (const fs::path& ours : files(path_, "chunk-")) {
    for (const fs::path& theirs : files(folder, "chunk-")) {
      if (tokens(ours) == tokens(theirs)) {
        fs::copy_file(theirs, ours, fs::copy_options::overwrite_existing);
      }
    }
  }
  EXPECT_EQ(expect_as_always().load_failures, kChunks);
}

// Damages one file after another; each is encoded again, and stored again.
void damage(const tsr::Model& model, const tsr::ContextOptions& options, const std::string& path,
            const std::vector<float>& wanted, int times, uint64_t seed) {
  Random random(seed);
  const std::vector<fs::path> all = files(path);
  for (int i = 0; i < times && !testing::Test::HasFailure(); ++i) {
    const fs::path& file = all[random.below(all.size())];
    SCOPED_TRACE("damage " + std::to_string(i) + " to " + file.filename().string());
    const std::vector<char> good = bytes_of(file);
    std::vector<char> bad = good;
    if (i % 4 == 0) {
      bad.resize(random.below(bad.size()));
    } else {
      const uint64_t bit = random.below(bad.size() * 8);
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    }
    write_file(file, bad);
    // Only who encodes a chunk reads the primer.
    const bool primer = file.filename().string().starts_with("primer-");
    if (primer) fs::remove(files(path, "chunk-")[random.below(kChunks)]);
    const tsr::Context context(model, options);
    EXPECT_EQ(ask(context), wanted);
    expect_only_caches(context);
    EXPECT_EQ(context.metrics().load_failures, 1u);
    wait_stored(context, primer ? 2 : 1);
    EXPECT_EQ(files(path), all);
    EXPECT_EQ(bytes_of(file).size(), good.size());
  }
}

TEST_P(DiskDamage, DamagedFilesAreEncodedAgain) {
  warm();
  damage(model(), with(path_), path_, wanted(), 24, 1);
}

TEST_P(FullDiskDamage, AThousandDamages) {
  warm();
  damage(model(), with(path_), path_, wanted(), GetParam() == "cpu" ? 1334 : 100, 2);
}

// Files are read right into pages where the host reaches them: a bad one leaves nothing there, not
// even in slots behind the text's end, where numbers that are none might spread from.
TEST_P(DiskDamage, NothingStaysInAPage) {
  warm();
  for (const fs::path& file : files(path_, "chunk-")) {
    std::vector<char> bytes = bytes_of(file);
    std::fill(bytes.begin() + 300, bytes.end(), char(-1));  // behind head and tokens
    write_file(file, bytes);
  }
  const auto pages = [](const tsr::Context& context) {
    std::vector<std::vector<std::vector<uint8_t>>> all;
    for (uint64_t i = 0; i < kChunks; ++i) {
      const tsr::Chunk chunk(context, digits(9 + 13 * i, i));
      chunk.wait();
      wait_until_idle(context);
      all.push_back(engine::ContextProbe(context.get()).bytes_of(chunk.get()));
    }
    return all;
  };
  const tsr::Context damaged = warmable(), plain = context(with(""));
  EXPECT_EQ(pages(damaged), pages(plain));
  EXPECT_EQ(damaged.metrics().load_failures, kChunks);
}

// Chunk and base all damaged: a failed load needs its base, whose load fails, too.
TEST_P(DiskDamage, EveryFileDamaged) {
  warm();
  for (const bool empty : {false, true}) {
    for (const fs::path& file : files(path_)) {
      std::vector<char> bytes = bytes_of(file);
      bytes[bytes.size() / 2] ^= 1;
      if (empty) bytes.clear();
      write_file(file, bytes);
    }
    const tsr::Context context = warmable();
    EXPECT_EQ(ask(context), wanted());
    expect_only_caches(context);
    EXPECT_EQ(context.metrics().load_failures, kChunks + 2);
    wait_stored(context, kChunks + 2);
  }
  EXPECT_EQ(expect_as_always().chunks_loaded, kChunks + 1);
}

}  // namespace
}  // namespace tessera::test
