// What else happens to a folder, its contexts and their device while texts are loaded and stored.
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "backends/remote/remote.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/disk_fixture.hpp"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

class DiskRaces : public DiskFixture {};
TESSERA_ON_EACH_DEVICE(DiskRaces);

// Somebody deletes and damages files all the time while sessions run.
TEST_P(DiskRaces, FilesAreDeletedMeanwhile) {
  warm();
  const tsr::Context plain = context(with(""));
  std::vector<std::vector<float>> want;
  for (uint64_t seed = 0; seed < 6; ++seed) want.push_back(ask(plain, seed * 10));
  {
    const Vandal vandal(path_);
    for (int round = 0; round < 15 && !HasFailure(); ++round) {
      const tsr::Context context = warmable("", 40);
      for (uint64_t i = 0; i < 6; ++i) {
        const uint64_t seed = (i * 5 + static_cast<uint64_t>(round)) % 6;
        EXPECT_EQ(ask(context, seed * 10), want[seed]);
      }
      expect_only_caches(context);
    }
  }
  EXPECT_EQ(expect_as_always().store_failures, 0u);
}

// Texts come into pages, others are given up for them, while steps of another session compute.
TEST_P(DiskRaces, FilesAreReadBesideAnAnswer) {
  constexpr uint64_t kAsked = 6;
  constexpr uint64_t kPages = 56;  // an answer takes 33, a prompt 10 and what it stands behind
  const tsr::GenerateOptions options = greedy(250);
  std::vector<std::vector<float>> want;
  std::vector<int32_t> alone;
  {
    const tsr::Context context = warmable();
    for (uint64_t i = 0; i < kAsked; ++i) want.push_back(ask(context, i * 10));
    tsr::Session session(context);
    session.add_text("a long answer");
    alone = generate(session, options);
    wait_stored(context, kAsked * kChunks + 2);
  }
  uint64_t beside = 0;
  for (int round = 0; round < 20 && (round < 3 || beside < kAsked); ++round) {
    const tsr::Context context = warmable("", kPages);
    tsr::Session session(context);
    session.add_text("a long answer");
    session.generate(options);
    for (uint64_t i = 0; i < 3 * kAsked; ++i) {
      EXPECT_EQ(ask(context, i % kAsked * 10), want[i % kAsked]);
      beside += session.info().generating;
    }
    EXPECT_EQ(read(session).tokens, options.max_tokens);
    const std::vector<int32_t> tokens = session.tokens();
    EXPECT_TRUE(std::equal(alone.rbegin(), alone.rend(), tokens.rbegin()));
    EXPECT_GT(context.metrics().evicted_chunks, 0u);
    EXPECT_EQ(context.metrics().load_failures, 0u);
    session.reset();
    expect_only_caches(context);
  }
  EXPECT_GE(beside, kAsked);
}

// Contexts of several threads encode, store and load the same texts at the same time.
TEST_P(DiskRaces, ContextsShareAFolder) {
  wanted();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 4; ++i) {
        const tsr::Context context(model(), with(path_));
        wrong += ask(context) != wanted_;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const tsr::Metrics m = expect_as_always();
  EXPECT_EQ(m.load_failures, 0u);
  for (const fs::path& file : files(path_)) {
    EXPECT_FALSE(file.filename().string().starts_with("tmp-"));
  }
}

TEST_P(DiskRaces, TheBudgetHolds) {
  wanted();
  tsr::ContextOptions options = with(path_);
  options.cache_budget = 40 * kTokenBytes * 2;
  const tsr::Context context = this->context(options);
  for (uint64_t seed = 0; seed < 60; seed += 10) ask(context, seed);
  wait_until_idle(context);
  for (int i = 0; i < 100; ++i) {
    uint64_t bytes = 0;
    std::error_code gone;
    for (const fs::path& file : files(path_)) {
      const uint64_t size = fs::file_size(file, gone);
      bytes += gone ? 0 : size;
    }
    EXPECT_LE(bytes, options.cache_budget);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GT(context.metrics().chunks_stored, 4u);
  EXPECT_LE(context.metrics().disk_bytes, options.cache_budget);
}

// Sessions and contexts are cancelled and destroyed at any moment of loading and storing.
TEST_P(DiskRaces, EndsAtEachStage) {
  warm();
  Random random(4);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  for (int i = 0; i < 60 && !HasFailure(); ++i) {
    if (i % 3 == 0) fs::remove(files(path_)[random.below(files(path_).size())]);
    std::optional<tsr::Context> context(warmable());
    {
      tsr::Session session(*context, repair(TSR_REPAIR_NONE));
      session.add_anchor();
      for (uint64_t c = 0; c < kChunks; ++c) {
        session.add_chunk(tsr::Chunk(*context, digits(9 + 13 * c, c), lazy));
      }
      session.add_text("?");
      session.generate(greedy(3));
      const auto moment = std::chrono::microseconds(random.below(1500));
      std::this_thread::sleep_for(moment);
      switch (i % 4) {
        case 0:
          session.cancel();
          read(session);
          break;
        case 1:
          session.reset();
          break;
        case 2:
          context.reset();
          break;
        default:
          EXPECT_EQ(read(session).finish, TSR_FINISH_LENGTH);
      }
    }
    if (context && i % 2 == 0) {
      EXPECT_EQ(ask(*context), wanted());
      expect_only_caches(*context);
    }
  }
}

// A device that is lost while texts load takes all along, and nothing hangs.
TEST_P(DiskRaces, TheDeviceIsLost) {
  if (GetParam() != "remote") GTEST_SKIP() << "the CPU is not lost";
  warm();
  release_models();
  for (int i = 0; i < 10; ++i) {
    const tsr::Model model = load_model("remote");
    const tsr::Context context(model, with(path_));
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_anchor();
    session.add_chunk(tsr::Chunk(context, digits(9, 0)));
    session.add_text("?");
    session.generate(greedy(200));
    std::this_thread::sleep_for(std::chrono::microseconds(300 * i));
    remote::kill_all_workers();
    EXPECT_EQ(read(session).status, TSR_DEVICE_LOST);
    expect_idle(context);
  }
  remote::reset_remote_report();
}

}  // namespace
}  // namespace tessera::test
