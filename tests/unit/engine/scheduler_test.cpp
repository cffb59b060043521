// Many sessions at once.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class Scheduler : public EngineTest {};
TESSERA_ON_EACH_DEVICE(Scheduler);

// A prompt of its own kind for each i: plain text, a chunk in front or in between, several turns.
void fill(const tsr::Context& context, tsr::Session& session, uint64_t i) {
  if (i % 4 == 1) session.add_chunk(tsr::Chunk(context, digits(10 + i % 3, 1)));
  session.add_text(digits(1 + i * 7 % 45, i));
  if (i % 4 == 2) {
    session.add_chunk(tsr::Chunk(context, digits(20, i % 2)));
    session.add_text("?");
  }
}

tsr::GenerateOptions options_of(uint64_t i) {
  const auto tokens = static_cast<uint32_t>(5 + i % 9);
  tsr::GenerateOptions options = i % 3 == 0 ? greedy(tokens) : drawn(tokens, i);
  options.logprobs = 3;
  return options;
}

// What an answer was made of: its tokens, log-probabilities on the way, and the logits of its last
// token.
struct Made {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> logits;
};

Made made(tsr::Session& session) {
  Made made;
  const Answer answer = read(session);
  EXPECT_EQ(answer.status, TSR_OK) << answer.message;
  for (const Told& told : answer.told) {
    made.logprobs.push_back(told.logprob);
    for (const tsr_token_logprob& other : told.top) made.logprobs.push_back(other.logprob);
  }
  made.tokens = session.tokens();
  made.logits = session.evaluate();
  return made;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(Scheduler, SixtyFourAtOnceEachAsIfAlone) {
  constexpr uint64_t kSessions = 64;
  std::vector<Made> alone;
  {
    const tsr::Context context = this->context(small(2048));
    for (uint64_t i = 0; i < kSessions; ++i) {
      tsr::Session session(context);
      fill(context, session, i);
      session.generate(options_of(i));
      alone.push_back(made(session));
    }
  }
  for (const uint32_t step : {1u, 16u, 40u, 0u}) {  // 0: as many as end in time
    tsr::ContextOptions options = small(2048);
    options.max_step_tokens = step;
    const tsr::Context context = this->context(options);
    std::vector<tsr::Session> sessions;
    for (uint64_t i = 0; i < kSessions; ++i) {
      sessions.emplace_back(context);
      fill(context, sessions.back(), i);
    }
    for (uint64_t i = 0; i < kSessions; ++i) sessions[i].generate(options_of(i));
    for (uint64_t i = 0; i < kSessions; ++i) {
      SCOPED_TRACE(std::to_string(i) + ", steps of " + std::to_string(step));
      const Made together = made(sessions[i]);
      EXPECT_EQ(together.tokens, alone[i].tokens);
      EXPECT_TRUE(same_bits(together.logprobs, alone[i].logprobs));
      EXPECT_TRUE(same_bits(together.logits, alone[i].logits));
    }
    expect_idle(context);
    sessions.clear();
    expect_only_caches(context);
  }
}

// While a long prompt is computed an answer goes on, at least every other step.
TEST_P(Scheduler, ALongPromptDoesNotStarveAnswers) {
  for (const uint32_t step : {1u, 2u, 8u}) {
    tsr::ContextOptions options = small();
    options.max_step_tokens = step;
    const tsr::Context context = this->context(options);
    tsr::SessionOptions wide;
    wide.event_capacity = 1000;
    tsr::Session answering(context, wide), prompting(context);
    answering.add_text("a");
    answering.generate(greedy(100));
    prompting.add_text(digits(900, 1));
    prompting.generate(greedy(1));
    EXPECT_EQ(read(prompting).tokens, 1u);
    EXPECT_GE(engine::ContextProbe(context.get()).tokens_of_sessions()[0], 1 + 50u)
        << "in at least 112 steps of " << step;
    EXPECT_EQ(read(answering).tokens, 100u);
    expect_idle(context);
  }
}

// The other way about: answers without end do not keep a prompt from being computed, even where a
// step has one row only, and take turns.
TEST_P(Scheduler, AnswersDoNotStarveAPrompt) {
  for (const uint32_t step : {1u, 2u, 3u}) {
    tsr::ContextOptions options = small(4096);
    options.max_step_tokens = step;
    const tsr::Context context = this->context(options);
    tsr::SessionOptions wide;
    wide.event_capacity = 10'000;
    std::vector<tsr::Session> answering;
    for (uint64_t i = 0; i < 3; ++i) {
      answering.emplace_back(context, wide);
      answering.back().add_text(digits(3, i));
    }
    for (tsr::Session& session : answering) session.generate(greedy(8000));
    engine::ContextProbe probe(context.get());
    while (std::ranges::min(probe.tokens_of_sessions()) == 3) std::this_thread::yield();
    tsr::Session prompting(context);
    prompting.add_text(digits(200, 9));
    const std::vector<uint64_t> before = probe.tokens_of_sessions();
    prompting.generate(greedy(1));
    EXPECT_EQ(read(prompting).tokens, 1u);
    const std::vector<uint64_t> after = probe.tokens_of_sessions();
    for (tsr::Session& session : answering) session.cancel();
    for (tsr::Session& session : answering) EXPECT_EQ(read(session).finish, TSR_FINISH_CANCELLED);
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < answering.size(); ++i) {
      EXPECT_LT(after[i], 8000u) << "the prompt waited for the answers, steps of " << step;
      least = std::min(least, after[i] - before[i]);
      most = std::max(most, after[i] - before[i]);
    }
    // Of 100 or more steps at least every other one has a row for an answer.
    EXPECT_GE(least, 10u) << "an answer waited, steps of " << step;
    EXPECT_LE(most, least + least / 4 + 4) << "answers do not take turns, steps of " << step;
  }
}

// More answers than rows: each gets a token before any gets another one, not bursts and pauses.
TEST_P(Scheduler, AnswersThatDoNotFitAStepInterleave) {
  tsr::ContextOptions options = small(4096);
  options.max_step_tokens = 3;
  const tsr::Context context = this->context(options);
  tsr::SessionOptions wide;
  wide.event_capacity = 10'000;
  std::vector<tsr::Session> answering;
  for (uint64_t i = 0; i < 12; ++i) {
    answering.emplace_back(context, wide);
    answering.back().add_text(digits(3, i));
    answering.back().generate(greedy(1000));
  }
  engine::ContextProbe probe(context.get());
  while (std::ranges::min(probe.tokens_of_sessions()) == 3) std::this_thread::yield();
  const std::vector<uint64_t> before = probe.tokens_of_sessions();
  for (uint64_t most = 0; most < 200;) {
    const std::vector<uint64_t> now = probe.tokens_of_sessions();
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < now.size(); ++i) {
      least = std::min(least, now[i] - before[i]);
      most = std::max(most, now[i] - before[i]);
    }
    ASSERT_LE(most, least + 1) << "after " << most;
  }
  for (tsr::Session& session : answering) session.cancel();
  for (tsr::Session& session : answering) EXPECT_EQ(read(session).finish, TSR_FINISH_CANCELLED);
}

TEST_P(Scheduler, AFullEventQueuePausesItsSessionOnly) {
  const tsr::Context context = this->context();
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session unread(context, narrow), other(context);
  unread.add_text("unread");
  unread.generate(drawn(50, 1));
  for (int i = 0; i < 3; ++i) {
    other.add_text("other");
    EXPECT_EQ(generate(other, greedy(40)).size(), 40u);
  }
  EXPECT_EQ(unread.info().generating, 1);
  const uint64_t waiting = unread.info().tokens;
  EXPECT_LT(waiting, 20u) << "it went on although nobody reads";
  const tsr::Metrics m = context.metrics();
  EXPECT_GT(m.pages_reserved, 0u);
  EXPECT_EQ(read(unread).tokens, 50u);
  expect_idle(context);
}

TEST_P(Scheduler, WaitSeesEverySession) {
  const tsr::Context context = this->context();
  EXPECT_EQ(context.wait(0), nullptr);
  std::vector<tsr::Session> sessions;
  std::map<tsr_session, uint64_t> left;  // tokens still to come
  for (uint64_t i = 0; i < 9; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_text(digits(4 + i, i));
  }
  for (tsr::Session& session : sessions) {
    session.generate(greedy(10));
    left[session.get()] = 10;
  }
  std::set<tsr_session> done;
  while (done.size() < sessions.size()) {
    const tsr_session ready = context.wait(60'000);
    ASSERT_NE(ready, nullptr);
    ASSERT_TRUE(left.contains(ready)) << "not one of our sessions";
    ASSERT_FALSE(done.contains(ready)) << "nothing is left to read";
    tsr::Event event;
    ASSERT_EQ(tsr_session_next(ready, 0, &event), TSR_OK) << tsr_last_error();
    ASSERT_NE(event.kind, TSR_EVENT_NONE);
    if (event.kind == TSR_EVENT_DONE) {
      EXPECT_EQ(event.tokens, 10u);
      done.insert(ready);
    }
  }
  EXPECT_EQ(context.wait(0), nullptr);
}

// A session whose reader is slow does not hide the others from the waiter.
TEST_P(Scheduler, WaitTakesTurns) {
  const tsr::Context context = this->context();
  std::vector<tsr::Session> sessions;
  for (uint64_t i = 0; i < 4; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_text(digits(4, i));
    sessions.back().generate(greedy(2));
  }
  wait_until_idle(context);
  std::set<tsr_session> seen;
  for (int i = 0; i < 4; ++i) seen.insert(context.wait(0));
  EXPECT_EQ(seen.size(), 4u);
  for (tsr::Session& session : sessions) read(session);
}

}  // namespace
}  // namespace tessera::test
