// Host memory runs out while a request's texts are read from files, or encoded and written.
#include <filesystem>
#include <iterator>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/engine/memory_fixture.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

class HostMemoryDisk : public MemoryFixture {
 protected:
  void SetUp() override {
    MemoryFixture::SetUp();
    folder_ = temp_.file("cache");
    const tsr::Context context = this->context(options());
    tsr::Session session = text_needed(context);
    EXPECT_EQ(request(session.get()).finish, TSR_FINISH_LENGTH);
    wait_stored(context, kTexts);
  }
  void TearDown() override {
    folder_.clear();
    MemoryFixture::TearDown();
  }

  // Anchor and chunk are not in memory; without repair all of them is needed.
  static tsr::Session text_needed(const tsr::Context& context) {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    tsr::ChunkOptions lazy;
    lazy.flags = TSR_CHUNK_LAZY;
    session.add_anchor();
    session.add_chunk(tsr::Chunk(context, digits(12, 3), lazy));
    session.add_text("?");
    return session;
  }
  // Nor on disk.
  static tsr::Session file_missing(const tsr::Context& context) {
    for (const auto& file : fs::directory_iterator(folder_)) fs::remove(file);
    return text_needed(context);
  }
  static constexpr uint64_t kTexts = 2;

  void run_reading(int64_t stride) {
    {
      const tsr::Context context = this->context(options());
      tsr::Session session = text_needed(context);
      EXPECT_EQ(request(session.get()).finish, TSR_FINISH_LENGTH);
      EXPECT_EQ(context.metrics().chunks_loaded, kTexts);
    }
    run(text_needed, 1, stride);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), kTexts)
        << "files are not damaged";
  }
  void run_writing(int64_t stride) { run(file_missing, 1, stride); }

 private:
  const TempFolder temp_;
};
INSTANTIATE_TEST_SUITE_P(Devices, HostMemoryDisk, testing::Values("cpu"));
class FullHostMemoryDisk : public HostMemoryDisk {};
INSTANTIATE_TEST_SUITE_P(Devices, FullHostMemoryDisk, testing::Values("cpu"));

TEST_P(HostMemoryDisk, RunsOutWhileTextsAreRead) {
  run_reading(4);
}

TEST_P(HostMemoryDisk, RunsOutWhileTextsAreWritten) {
  run_writing(7);
}

TEST_P(FullHostMemoryDisk, RunsOutWhileTextsAreRead) {
  run_reading(1);
  EXPECT_GT(load_failures_, 0u);
}

TEST_P(FullHostMemoryDisk, RunsOutWhileTextsAreWritten) {
  run_writing(1);
  EXPECT_GT(store_failures_, 0u);
}

}  // namespace
}  // namespace tessera::test
