// Prefix runs: what one session computed serves the next one that begins the same way, and only
// that.
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class PrefixRuns : public EngineTest {
 protected:
};
TESSERA_ON_EACH_DEVICE(PrefixRuns);

// Tokens of the prompt that were reused.
uint64_t reused(const tsr::Session& session) {
  const tsr::Report report = session.report();
  return report.tokens_exact + report.tokens_approximate;
}

TEST_P(PrefixRuns, ASecondSessionTakesWholePages) {
  const tsr::Context context = this->context();
  tsr::Session first(context);
  first.add_text(digits(45, 1));
  const std::vector<int32_t> wanted = generate(first, greedy(5));
  EXPECT_EQ(reused(first), 0u);
  for (const uint64_t length : {45u, 44u, 41u, 40u, 39u, 8u, 7u, 1u}) {
    tsr::Session second(context);
    second.add_text(digits(45, 1).substr(0, length));
    const std::vector<int32_t> answer = generate(second, greedy(5));
    // The last token is always computed: its logits are wanted.
    EXPECT_EQ(reused(second), (length - 1) / 8 * 8) << length;
    expect_report(second, length);
    EXPECT_EQ(second.report().tokens_approximate, 0u);
    if (length == 45) {
      EXPECT_EQ(answer, wanted);
    }
  }
  EXPECT_EQ(context.metrics().prefix_tokens, 40u + 40 + 40 + 32 + 32);
  expect_idle(context);
}

TEST_P(PrefixRuns, AnswersAreReusedToo) {
  const tsr::Context context = this->context();
  tsr::Session first(context);
  first.add_text(digits(10, 1));
  generate(first, greedy(30));
  tsr::Session second(context);
  second.add_tokens(first.tokens());
  second.add_text("and now?");
  generate(second, greedy(2));
  EXPECT_EQ(reused(second), 32u) << "39 tokens have KV: the last of the 40 was never computed";
}

TEST_P(PrefixRuns, OneTokenOffIsAnotherRun) {
  const tsr::Context context = this->context();
  std::string text = digits(40, 1);
  tsr::Session first(context);
  first.add_text(text);
  generate(first, greedy(1));
  for (const size_t at : {0u, 7u, 8u, 23u, 39u}) {
    std::string other = text;
    other[at] = other[at] == '1' ? '2' : '1';
    tsr::Session second(context), alone(this->context());
    for (tsr::Session* session : {&second, &alone}) session->add_text(other);
    EXPECT_EQ(second.evaluate(), alone.evaluate()) << at;
    EXPECT_EQ(reused(second), std::min<uint64_t>(at / 8 * 8, 32)) << at;
  }
}

TEST_P(PrefixRuns, ASessionThatWasDestroyedLeavesItsRun) {
  const tsr::Context context = this->context();
  {
    tsr::Session first(context);
    first.add_text(digits(33, 1));
    generate(first, greedy(1));
  }
  expect_only_caches(context);
  EXPECT_EQ(context.metrics().pages_cached, 4u);
  tsr::Session second(context);
  second.add_text(digits(33, 1));
  generate(second, greedy(1));
  EXPECT_EQ(reused(second), 32u);
}

TEST_P(PrefixRuns, SessionsThatComputeTheSameAtOnceEndWithOneCopy) {
  const tsr::Context context = this->context();
  std::vector<tsr::Session> sessions;
  for (int i = 0; i < 4; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_text(digits(64, 1));
  }
  for (tsr::Session& session : sessions) session.generate(greedy(1));
  for (tsr::Session& session : sessions) read(session);
  expect_idle(context);
  EXPECT_EQ(context.metrics().pages_used, 8u);
}

// Text behind a chunk: found again only behind the same chunk used in the same way.
TEST_P(PrefixRuns, ProvenanceIsPartOfTheRun) {
  const tsr::Context context = this->context();
  const std::string tail = digits(24, 9);
  const tsr::Chunk a(context, digits(20, 1)), b(context, digits(20, 2));
  const auto run = [&](const tsr::Context& where, const tsr::Chunk& x, const tsr::Chunk& y,
                       const tsr::SessionOptions& options) {
    tsr::Session session(where, options);
    session.add_chunk(x);
    session.add_chunk(y);
    session.add_text(tail);
    const std::vector<float> logits = session.evaluate();
    return std::make_pair(logits, session.report());
  };
  const auto [shared, shared_report] = run(context, a, b, repair(TSR_REPAIR_NONE));
  EXPECT_EQ(shared_report.tokens_approximate, 20u) << "the first chunk is exact";
  EXPECT_EQ(shared_report.tokens_computed, 24u);

  // FULL never takes text from behind approximate content ...
  const auto [whole, whole_report] = run(context, a, b, repair(TSR_REPAIR_FULL));
  EXPECT_EQ(whole_report.tokens_exact, 0u);
  EXPECT_EQ(whole_report.tokens_approximate, 0u);
  EXPECT_EQ(whole_report.tokens_computed, 64u);
  EXPECT_NE(whole, shared);
  // ... nor the other way about.
  const auto [again, again_report] = run(context, a, b, repair(TSR_REPAIR_NONE));
  EXPECT_EQ(again, shared);
  EXPECT_EQ(again_report.tokens_exact, 20u);
  EXPECT_EQ(again_report.tokens_approximate, 20u + 16) << "its own run, reported approximate";
  EXPECT_EQ(again_report.tokens_computed, 8u);
  const auto [whole_again, whole_again_report] = run(context, a, b, repair(TSR_REPAIR_FULL));
  EXPECT_EQ(whole_again, whole);
  EXPECT_EQ(whole_again_report.tokens_exact, 20u + 20 + 16);

  // Other chunks, or the same ones the other way round, are another context.
  EXPECT_EQ(run(context, b, a, {}).second.tokens_computed, 24u);
  EXPECT_EQ(run(context, a, a, {}).second.tokens_computed, 24u);
  // The FULL prompt is the ordinary one, on a context of its own as well.
  tsr::Context fresh = this->context();
  const tsr::Chunk fresh_a(fresh, digits(20, 1)), fresh_b(fresh, digits(20, 2));
  EXPECT_EQ(run(fresh, fresh_a, fresh_b, repair(TSR_REPAIR_FULL)).first, whole);
}

// The text of a chunk as plain text is not the chunk: its keys stand in another frame.
TEST_P(PrefixRuns, TextAndChunkOfTheSameTokensAreDistinct) {
  const tsr::Context context = this->context();
  const std::string front = digits(16, 3), text = digits(16, 4);
  const tsr::Chunk chunk(context, text);
  tsr::Session plain(context), whole(context, repair(TSR_REPAIR_FULL)), plain_again(context);
  for (tsr::Session* session : {&plain, &whole, &plain_again}) {
    session->add_text(front);
    if (session == &whole) {
      session->add_chunk(chunk);
    } else {
      session->add_text(text);
    }
    session->add_text("?");
    session->evaluate();
  }
  EXPECT_EQ(reused(plain), 0u);
  EXPECT_EQ(reused(whole), 16u) << "only what stands in front of the chunk";
  EXPECT_EQ(reused(plain_again), 32u);
}

// A piece of context that ends inside a page is shared with its part of a page.
TEST_P(PrefixRuns, PartialPagesBetweenChunks) {
  const tsr::Context context = this->context();
  const tsr::Chunk chunk(context, digits(5, 1));
  for (int round = 0; round < 2; ++round) {
    tsr::Session session(context);
    session.add_text(digits(11, 2));
    session.add_chunk(chunk);
    session.add_text(digits(13, 3));
    session.add_chunk(chunk);
    session.add_text("?");
    generate(session, greedy(1));
    expect_report(session, 11 + 5 + 13 + 5 + 1);
    EXPECT_EQ(session.report().tokens_computed, round == 0 ? 25u : 1u);
    expect_idle(context);
  }
}

TEST_P(PrefixRuns, AllLogitsReuseNothing) {
  const tsr::Context context = this->context();
  const size_t width = model().info().vocabulary;
  for (int round = 0; round < 2; ++round) {
    tsr::Session session(context);
    session.add_text(digits(30, 1));
    EXPECT_EQ(session.evaluate(TSR_LOGITS_ALL).size(), 30 * width);
    EXPECT_EQ(reused(session), 0u);
  }
  expect_only_caches(context);
  EXPECT_EQ(context.metrics().pages_used, 3u) << "the second run is the first one's";
}

}  // namespace
}  // namespace tessera::test
