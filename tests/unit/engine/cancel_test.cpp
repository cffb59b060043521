// Cancelling and destroying at every stage of an answer.
#include <chrono>
#include <iostream>
#include <thread>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kLong = 2000;    // tokens; some hundred milliseconds in steps of one
constexpr uint64_t kMoreSteps = 2;  // at most, behind a cancel

class Cancel : public EngineTest {
 protected:
  // Cancels and reads to the end; prints how long that took and how many steps.
  static Answer cancel(const tsr::Context& context, tsr::Session& session, const char* stage,
                       uint64_t more_steps = kMoreSteps) {
    Answer answer;
    expect_ends_soon(
        context, stage, more_steps, [&] { session.cancel(); }, [&] { answer = read(session); });
    EXPECT_EQ(answer.finish, TSR_FINISH_CANCELLED) << answer.message;
    return answer;
  }
  template <typename Cancel, typename Wait>
  static void expect_ends_soon(const tsr::Context& context, const char* stage, uint64_t more_steps,
                               Cancel cancel, Wait wait) {
    const auto begin = Clock::now();
    cancel();
    const uint64_t steps = context.metrics().steps;
    wait();
    const uint64_t more = context.metrics().steps - steps;
    const std::chrono::duration<double, std::milli> took = Clock::now() - begin;
    std::cout << "cancelled " << stage << " in " << took.count() << " ms, " << more << " steps\n";
    EXPECT_LE(more, more_steps) << "cancelled " << stage;
  }
  static tsr::ContextOptions small_steps() {
    tsr::ContextOptions options = small(1024);
    options.max_step_tokens = 1;
    return options;
  }
};
TESSERA_ON_EACH_DEVICE(Cancel);

TEST_P(Cancel, WhileThePromptIsComputed) {
  const tsr::Context context = this->context(small_steps());
  tsr::Session session(context);
  session.add_text(digits(kLong, 1));
  session.generate(greedy(5));
  ASSERT_EQ(session.next()->kind, TSR_EVENT_PROGRESS);
  const Answer answer = cancel(context, session, "in the prompt");
  EXPECT_EQ(answer.tokens, 0u);
  const uint64_t computed = session.info().computed;
  EXPECT_LT(computed, kLong);
  EXPECT_EQ(session.info().tokens, kLong);
  const tsr::Report report = session.report();
  EXPECT_EQ(report.tokens_computed, computed);
  EXPECT_EQ(report.tokens_exact + report.tokens_approximate + report.tokens_generated, 0u);
  EXPECT_GT(report.prompt_us, 0u);
  EXPECT_EQ(report.first_token_us, 0u);
  EXPECT_EQ(report.bytes_private + report.bytes_shared, (computed + 7) / 8 * 8 * kTokenBytes);
  expect_idle(context);
  // The rest is computed when it is needed again, and nothing twice.
  tsr::Session alone(this->context());
  alone.add_text(digits(kLong, 1));
  EXPECT_EQ(generate(session, greedy(5)), generate(alone, greedy(5)));
  expect_report(session, kLong);
}

TEST_P(Cancel, WhileTokensAreGenerated) {
  const tsr::Context context = this->context();
  tsr::SessionOptions narrow;
  narrow.event_capacity = 4;
  tsr::Session session(context, narrow), alone(context);
  session.add_text("decode");
  alone.add_text("decode");
  session.generate(greedy(500));
  while (session.next()->kind != TSR_EVENT_TEXT) {
  }
  const Answer answer = cancel(context, session, "in the answer");
  EXPECT_GE(answer.tokens, 1u);
  EXPECT_LT(answer.tokens, 500u);
  EXPECT_EQ(session.info().tokens, model().tokenize("decode").size() + answer.tokens)
      << "what was generated stays";
  expect_idle(context);
  generate(alone, greedy(static_cast<uint32_t>(answer.tokens)));
  EXPECT_EQ(session.tokens(), alone.tokens());
  EXPECT_EQ(generate(session, greedy(5)), generate(alone, greedy(5)));
}

TEST_P(Cancel, WhileAChunkIsEncoded) {
  const tsr::Context context = this->context(small_steps());
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  const tsr::Chunk chunk(context, digits(kLong, 1), lazy);
  tsr::Session session(context);
  session.add_chunk(chunk);
  session.add_text("?");
  session.generate(greedy(3));
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_PENDING);
  // The encoding goes on for whoever comes next.
  cancel(context, session, "in the encoding of a chunk", kLong);
  EXPECT_TRUE(chunk.wait());
  EXPECT_EQ(generate(session, greedy(3)).size(), 3u);
  expect_report(session, kLong + 1);
  expect_idle(context);
}

TEST_P(Cancel, AnEvaluation) {
  const tsr::Context context = this->context(small_steps());
  tsr::Session session(context);
  session.add_text(digits(kLong, 1));
  tsr_status status = TSR_OK;
  std::thread evaluating([&] {
    std::vector<float> row(model().info().vocabulary);
    uint64_t count = 0;
    status = tsr_session_evaluate(session.get(), TSR_LOGITS_LAST, row.data(), row.size(), &count);
  });
  while (context.metrics().computed_tokens < 4) std::this_thread::yield();
  expect_ends_soon(
      context, "in an evaluation", kMoreSteps, [&] { session.cancel(); },
      [&] { evaluating.join(); });
  EXPECT_EQ(status, TSR_CANCELLED);
  expect_idle(context);
  EXPECT_EQ(session.evaluate().size(), model().info().vocabulary);
}

TEST_P(Cancel, NothingUnderWayIsFine) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.cancel();
  session.add_text("fine");
  session.cancel();
  EXPECT_EQ(generate(session, greedy(4)).size(), 4u) << "an old cancel ended a new answer";
  session.cancel();
  EXPECT_EQ(session.next()->kind, TSR_EVENT_NONE);
}

TEST_P(Cancel, APausedSession) {
  const tsr::Context context = this->context();
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session session(context, narrow);
  session.add_text("paused");
  session.generate(greedy(500));
  while (context.metrics().generated_tokens == 0) std::this_thread::yield();
  cancel(context, session, "while nobody read");
  expect_idle(context);
}

TEST_P(Cancel, DestroyingASessionEndsItsAnswer) {
  const tsr::Context context = this->context();
  for (int stage = 0; stage < 4; ++stage) {
    tsr::Session session(context);
    session.add_chunk(tsr::Chunk(context, digits(100, static_cast<uint64_t>(stage))));
    session.add_text(digits(100, 1));
    session.generate(greedy(400));
    if (stage > 0) session.next();
    while (stage > 1 && session.next()->kind != TSR_EVENT_TEXT) {
    }
    if (stage == 3) read(session);
    session.reset();
  }
  while (context.metrics().sessions > 0) std::this_thread::yield();
  expect_only_caches(context);
}

TEST_P(Cancel, DestroyingTheContextHandleDoesNot) {
  tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text("on and on");
  session.generate(greedy(30));
  context.reset();
  EXPECT_EQ(read(session).tokens, 30u);
  session.add_text("?");
  session.generate(greedy(500));
  session.reset();  // the last user: the context ends in the middle of the answer
}

}  // namespace
}  // namespace tessera::test
