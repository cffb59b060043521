// Host memory runs out in steps that several sessions share.
#include <algorithm>
#include <array>

#include "tests/unit/engine/memory_fixture.hpp"

namespace tessera::test {
namespace {

class HostMemorySteps : public MemoryFixture {};
INSTANTIATE_TEST_SUITE_P(Devices, HostMemorySteps, testing::Values("cpu"));
class FullHostMemorySteps : public MemoryFixture {};
INSTANTIATE_TEST_SUITE_P(Devices, FullHostMemorySteps, testing::Values("cpu"));

// Sessions that share their steps, each asked in its own way.
class Together {
 public:
  Together(const tsr::Context& context, const std::array<uint64_t, 3>& prompts) {
    for (uint64_t i = 0; i < prompts.size(); ++i) {
      sessions_.emplace_back(context);
      sessions_.back().add_text(digits(prompts[i], i));
    }
  }

  // How many failed.
  int ask() {
    std::array<Outcome, 3> outcomes;
    for (size_t i = 0; i < kAsks.size(); ++i) outcomes[i] = start(sessions_[i].get(), kAsks[i]);
    for (size_t i = 0; i < kAsks.size(); ++i) read_to_end(sessions_[i].get(), outcomes[i]);
    g_before = g_maps_before = -1;
    int failed = 0;
    for (const Outcome& outcome : outcomes) failed += expect_answer_or_failure(outcome);
    return failed;
  }

  using Tokens = std::array<std::vector<int32_t>, 3>;
  Tokens tokens() const {
    return {sessions_[0].tokens(), sessions_[1].tokens(), sessions_[2].tokens()};
  }

 private:
  static constexpr std::array kAsks = {Ask::plain, Ask::everything, Ask::drawn};
  std::vector<tsr::Session> sessions_;
};

// Fails what `before` counts, every `stride`-th: whoever failed gets the same answer when it asks
// again. How many failed.
int run_together(const tsr::Model& model, const tsr::ContextOptions& options,
                 const std::array<uint64_t, 3>& prompts, std::atomic<int64_t>& before,
                 int64_t stride) {
  const Together::Tokens wanted = [&] {
    const tsr::Context context(model, options);
    Together sessions(context, prompts);
    EXPECT_EQ(sessions.ask(), 0);
    return sessions.tokens();
  }();
  int failed = 0;
  uint64_t fewest_steps = UINT64_MAX;
  for (int64_t n = 0; !testing::Test::HasFailure(); n += stride) {
    SCOPED_TRACE("after " + std::to_string(n));
    const tsr::Context context(model, options);
    {
      Together sessions(context, prompts);
      g_length = 1;
      g_failed = 0;
      before = n;
      failed += sessions.ask();
      for (size_t i = 0; i < wanted.size(); ++i) {
        expect_begins(wanted[i], sessions.tokens()[i]);
      }
    }
    expect_only_caches(context);
    const bool fired = g_failed > 0;
    const uint64_t steps = context.metrics().steps;
    {
      Together again(context, prompts);
      EXPECT_EQ(again.ask(), 0);
      EXPECT_EQ(again.tokens(), wanted);
    }
    expect_only_caches(context);
    fewest_steps = std::min(fewest_steps, context.metrics().steps - steps);
    if (!fired) break;
  }
  EXPECT_LT(fewest_steps, 2 * kNewTokens) << "nothing was computed together";
  return failed;
}

TEST_P(HostMemorySteps, RunsOutInStepsOfSeveral) {
  EXPECT_GT(run_together(model(), options(), {20, 7, 30}, g_before, 2), 30);
}

TEST_P(FullHostMemorySteps, RunsOutInStepsOfSeveral) {
  EXPECT_GT(run_together(model(), options(), {20, 7, 30}, g_before, 1), 60);
}

// Attention over long contexts shares work among threads, in scratch that is mapped when a step
// first needs so much. A step without it fails all that are in it.
TEST_P(HostMemorySteps, TheSystemHasNoneForAStep) {
  if (!kMapsFail) GTEST_SKIP() << "maps do not fail in this build";
  tsr::ContextOptions options = small(256);
  options.threads = 4;
  EXPECT_GT(run_together(model(), options, {7, 1100, 20}, g_maps_before, 1), 0);
}

}  // namespace
}  // namespace tessera::test
