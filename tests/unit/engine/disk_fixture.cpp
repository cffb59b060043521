#include "tests/unit/engine/disk_fixture.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "tests/fuzz/random.hpp"

namespace tessera::test {

namespace fs = std::filesystem;

namespace {

const std::string kAnchor = "<|im_start|>anchor";
const std::string kPrimer = "some ordinary text";

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace

std::vector<fs::path> files(const std::string& folder, const std::string& kind) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(kind)) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

std::vector<char> bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Vandal::Vandal(const std::string& folder) {
  thread_ = std::thread([this, folder] {
    Random random(3);
    while (!stop_) {
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(folder, ignored)) {
        if (random.one_in(3)) fs::remove(entry.path(), ignored);
        if (random.one_in(6)) fs::resize_file(entry.path(), random.below(2000), ignored);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
}

Vandal::~Vandal() {
  stop_ = true;
  thread_.join();
}

std::vector<float> ask(tsr::Session& session, const tsr::Context& context, uint64_t seed) {
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  session.add_anchor();
  for (uint64_t i = 0; i < kChunks; ++i) {
    session.add_chunk(tsr::Chunk(context, digits(9 + 13 * i, seed + i), lazy));
  }
  session.add_text("?");
  return session.evaluate();
}

std::vector<float> ask(const tsr::Context& context, uint64_t seed) {
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  return ask(session, context, seed);
}

void DiskFixture::SetUp() {
  EngineTest::SetUp();
  model();
  descriptors_ = open_descriptors();
}

void DiskFixture::TearDown() {
  EngineTest::TearDown();
  if (GetParam() == "cpu") {
    EXPECT_EQ(open_descriptors(), descriptors_);
  }
}

tsr::ContextOptions disk_options(const std::string& folder, uint64_t pages) {
  tsr::ContextOptions options = small(pages);
  options.flags = 0;
  options.set_anchor(kAnchor);
  options.set_primer(kPrimer);
  if (!folder.empty()) options.set_cache_folder(folder);
  return options;
}

void DiskFixture::warm(const std::string& folder) {
  const tsr::Context context = warmable(folder);
  EXPECT_EQ(ask(context), wanted());
  wait_stored(context, kChunks + 2);
}

tsr::Metrics DiskFixture::expect_as_always(const std::string& folder) {
  const tsr::Context context = warmable(folder);
  EXPECT_EQ(ask(context), wanted());
  expect_only_caches(context);
  return context.metrics();
}

}  // namespace tessera::test
