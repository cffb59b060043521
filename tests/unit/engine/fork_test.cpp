// Forks: all pages shared, none of the other's written, answers as of sessions that stand alone.
#include <functional>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

const std::string kAnchor = "<|im_start|>the anchor";

class Fork : public EngineTest {
 protected:
  tsr::Context anchored(uint64_t pages = 512) {
    tsr::ContextOptions options = small(pages);
    options.set_anchor(kAnchor);
    return context(options);
  }
};
TESSERA_ON_EACH_DEVICE(Fork);

void begin(const tsr::Context& context, tsr::Session& session) {
  session.add_anchor();
  session.add_chunk(tsr::Chunk(context, digits(20, 1)));
  session.add_text("and");
  session.add_chunk(tsr::Chunk(context, digits(13, 2)));
}

TEST_P(Fork, TakesNoPageAndNoTime) {
  const tsr::Context context = anchored();
  tsr::Session session(context);
  begin(context, session);
  session.add_text("a question");
  generate(session, greedy(5));
  const tsr::Metrics before = context.metrics();
  tsr::Session fork = session.fork();
  const tsr::Metrics after = context.metrics();
  EXPECT_EQ(after.pages_used, before.pages_used);
  EXPECT_EQ(after.steps, before.steps);
  EXPECT_EQ(after.sessions, 2u);
  EXPECT_EQ(fork.tokens(), session.tokens());
  EXPECT_EQ(fork.info().computed, session.info().computed);
  EXPECT_EQ(fork.report().tokens_generated, 5u);
  EXPECT_EQ(fork.next(0)->kind, TSR_EVENT_NONE);
  expect_idle(context);
  session.reset();
  expect_idle(context);
  fork.add_text("?");
  generate(fork, greedy(5));
  EXPECT_EQ(fork.report().tokens_computed, 2u);
  fork.reset();
  expect_only_caches(context);
}

// What others have published stands in for restored pages, but not for those that a fork sees: what
// can be given up is then what is counted.
TEST_P(Fork, OfARestoredSessionKeepsRunsWhole) {
  const tsr::Context context = this->context(small(40));
  tsr::Session first(context);
  first.add_text(digits(60, 7));
  generate(first, greedy(12));
  tsr::Session restored = tsr::Session::restore(context, first.save());
  tsr::Session fork = restored.fork();
  const std::vector<int32_t> answer = generate(restored, greedy(16));
  first.reset();
  restored.reset();
  const tsr::Metrics metrics = context.metrics();
  const uint64_t free = metrics.pages_total - metrics.pages_used + metrics.pages_cached;
  tsr::Session filler(context);
  filler.add_text(digits(free * 8 - 16, 8));
  generate(filler, greedy(16));
  filler.reset();
  EXPECT_EQ(generate(fork, greedy(16)), answer);
  fork.reset();
  expect_only_caches(context);
}

// For every place of the page boundary, whoever writes first.
TEST_P(Fork, WritesNoPageOfTheOther) {
  const tsr::Context context = this->context();
  for (uint64_t length = 1; length <= 18; ++length) {
    for (const bool all_ready : {true, false}) {
      SCOPED_TRACE(length);
      tsr::Session session(context), plain(context);
      for (tsr::Session* s : {&session, &plain}) {
        s->add_text(digits(length, 5));
        if (all_ready) {
          s->evaluate();
        } else {
          generate(*s, greedy(3));
        }
      }
      tsr::Session fork = session.fork();
      const std::vector<uint8_t> before = session.save();
      fork.add_text(digits(2, 9));
      generate(fork, drawn(11, length));
      EXPECT_EQ(session.save(), before);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      const std::vector<uint8_t> forked = fork.save();
      EXPECT_EQ(session.evaluate(), plain.evaluate());
      EXPECT_EQ(generate(session, greedy(11)), generate(plain, greedy(11)));
      EXPECT_EQ(fork.save(), forked);
      expect_idle(context);
    }
  }
  expect_only_caches(context);
}

TEST_P(Fork, OfAnySession) {
  const tsr::Context context = anchored();
  tsr::Session empty(context);
  tsr::Session of_empty = empty.fork();
  EXPECT_EQ(of_empty.info().tokens, 0u);
  of_empty.add_anchor();
  tsr::Session of_anchor = of_empty.fork();
  EXPECT_EQ(of_anchor.evaluate(), of_empty.evaluate());
  tsr::Session of_fork = of_anchor.fork().fork();
  EXPECT_EQ(of_fork.evaluate(), of_empty.evaluate());
  expect_idle(context);
  of_fork.add_text("busy");
  of_fork.generate(greedy(4));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(status_of([&] { of_fork.fork(); }), TSR_BUSY);
    wait_until_idle(context);  // the second time: done, but not read
  }
  EXPECT_EQ(read(of_fork).tokens, 4u);
}

// A prompt that was cut off by a cancel, pending chunks and half a question.
TEST_P(Fork, OfACancelledPrompt) {
  tsr::ContextOptions options = small();
  options.max_step_tokens = 3;
  options.set_anchor(kAnchor);
  const tsr::Context context = this->context(options), other = this->context(options);
  tsr::Session plain(other);
  begin(other, plain);
  plain.add_text("a question of some length");
  const std::vector<int32_t> wanted = generate(plain, greedy(6));
  for (uint64_t steps = 0; steps < 30; steps += 3) {
    tsr::Session session(context);
    begin(context, session);
    session.add_text("a question of some length");
    const uint64_t begun = context.metrics().steps;
    session.generate(greedy(6));
    engine::ContextProbe probe(context.get());
    while (context.metrics().steps < begun + steps && !probe.idle()) {
    }
    session.cancel();
    if (read(session).tokens > 0) continue;
    tsr::Session fork = session.fork();
    fork.generate(greedy(6));
    EXPECT_EQ(generate(session, greedy(6)), wanted);
    read(fork);
    EXPECT_EQ(fork.tokens(), session.tokens());
    expect_idle(context);
  }
  expect_only_caches(context);
}

// Many continuations of one session, all at once: the bits of each alone.
TEST_P(Fork, ManyDecideTogether) {
  constexpr uint64_t kForks = 12;
  for (const tsr_repair mode :
       {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL}) {
    SCOPED_TRACE(mode);
    const tsr::Context context = anchored();
    const auto root_of = [&](const tsr::Context& in) {
      tsr::SessionOptions options = repair(mode);
      options.head_tokens = 5;
      options.select_share = 0.2f;
      tsr::Session root(in, options);
      begin(in, root);
      root.add_text("the first question");
      generate(root, greedy(5));
      return root;
    };
    const auto begin_fork = [](tsr::Session& fork, uint64_t i) {
      if (i % 3 > 0) fork.add_text(digits(i % 7, i));
      fork.generate(drawn(20 + static_cast<uint32_t>(i), i));
    };
    tsr::Session root = root_of(context);
    std::vector<tsr::Session> forks;
    for (uint64_t i = 0; i < kForks; ++i) {
      forks.push_back(root.fork());
      begin_fork(forks.back(), i);
    }
    for (tsr::Session& fork : forks) read(fork);
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    for (uint64_t i = 0; i < kForks; ++i) {
      const tsr::Context other = anchored();
      tsr::Session alone = root_of(other);
      begin_fork(alone, i);
      read(alone);
      EXPECT_EQ(forks[i].tokens(), alone.tokens()) << i;
      EXPECT_EQ(forks[i].evaluate(), alone.evaluate()) << i;
    }
    forks.clear();
    root.reset();
    expect_only_caches(context);
  }
}

// Copies are reserved like all that an answer takes.
TEST_P(Fork, CopiesAreReserved) {
  for (uint64_t pages = 4; pages < 16; ++pages) {
    const tsr::Context context = this->context(small(pages));
    tsr::Session session(context);
    session.add_text(digits(12, 1));
    session.evaluate();
    std::vector<tsr::Session> forks;
    int refused = 0;
    for (int i = 0; i < 4; ++i) {
      forks.push_back(session.fork());
      forks.back().add_text("x");
      const tsr_status status = status_of([&] { forks.back().generate(drawn(8, 1)); });
      EXPECT_TRUE(status == TSR_OK || status == TSR_CAPACITY);
      refused += status == TSR_CAPACITY;
    }
    EXPECT_EQ(refused > 0, pages < 10) << pages << " pages: 2 shared, 2 for each fork";
    for (tsr::Session& fork : forks) {
      if (fork.info().generating) {
        EXPECT_EQ(read(fork).tokens, 8u);
      }
    }
    expect_idle(context);
  }
}

}  // namespace
}  // namespace tessera::test
