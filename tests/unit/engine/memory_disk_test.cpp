// Host memory runs out while a request's texts are read from files, or encoded and written.
#include <filesystem>
#include <iterator>
#include <optional>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/engine/memory_fixture.hpp"
#include "tests/unit/engine/probe.hpp"

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

// A request that fails leaves its session in its place among prefix runs, also where all else that
// kept the place was given up for pages that a text is read into.
class PlaceInRuns {
 public:
  // The request finds so many pages free; it has to give up others.
  PlaceInRuns(const tsr::Context& context, uint64_t free)
      : session_(context, repair(TSR_REPAIR_NONE)), filler_(context) {
    const tsr::Chunk chunk(context, digits(16, 5));
    chunk.wait();
    const auto begin = [&](tsr::Session& session) {
      session.add_anchor();
      session.add_chunk(chunk);
      session.add_text("1234");
    };
    begin(session_);
    session_.evaluate();
    fork_ = session_.fork();
    {
      tsr::Session run(context, repair(TSR_REPAIR_NONE));
      begin(run);
      run.add_chunk(chunk);  // closes the text, so that its page is published
      run.add_text("?");
      run.evaluate();
    }
    fork_->add_chunk(chunk);  // keeps the text's page for itself, so that the session leaves, too
    fork_->evaluate();
    tsr::Chunk(context, digits(40, 9)).wait();  // dearer than the run: is given up after it
    const tsr::Metrics m = context.metrics();
    filler_.add_text(digits(8 * (m.pages_total - m.pages_used - free), 6));
    filler_.evaluate();
    tsr::ChunkOptions lazy;
    lazy.flags = TSR_CHUNK_LAZY;
    for (const uint64_t seed : {7u, 8u})
      session_.add_chunk(tsr::Chunk(context, digits(24, seed), lazy));
    session_.add_text("?");
  }
  tsr::Session& session() { return session_; }

 private:
  tsr::Session session_;
  std::optional<tsr::Session> fork_;
  tsr::Session filler_;
};

TEST_P(HostMemoryDisk, AFailedRequestStaysInItsPlace) {
  uint64_t free = 0;
  for (;; ++free) {  // as many as are needed, what can be given up counted
    const tsr::Context context = this->context(options());
    PlaceInRuns place(context, free);
    const Outcome outcome = request(place.session().get());
    if (outcome.started == TSR_CAPACITY) continue;
    EXPECT_EQ(outcome.finish, TSR_FINISH_LENGTH);
    EXPECT_GT(context.metrics().evicted_runs, 0u);
    break;
  }
  int64_t n = 0;
  for (; !HasFailure(); ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    PlaceInRuns place(context, free);
    g_before_here = n;
    const Outcome outcome = start(place.session().get(), Ask::plain);
    g_before_here = -1;
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    if (outcome.started == TSR_OK) break;
    EXPECT_EQ(outcome.started, TSR_OUT_OF_HOST_MEMORY);
    EXPECT_EQ(request(place.session().get()).finish, TSR_FINISH_LENGTH);
  }
  EXPECT_GT(n, 30);
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
