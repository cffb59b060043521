// The KV budget: admission, eviction, and what is left when something does not fit.
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class Capacity : public EngineTest {
 protected:
  static std::string bytes(uint64_t pages) { return std::to_string(pages * 8 * kTokenBytes); }
  static tsr::ChunkOptions lazy() {
    tsr::ChunkOptions options;
    options.flags = TSR_CHUNK_LAZY;
    return options;
  }
};
TESSERA_ON_EACH_DEVICE(Capacity);

TEST_P(Capacity, MetricsDescribeTheBudget) {
  const tsr::Context context = this->context(small(10));
  const tsr::Metrics m = context.metrics();
  EXPECT_EQ(m.page_size, 8u);
  EXPECT_EQ(m.page_bytes, 8 * kTokenBytes);
  EXPECT_EQ(m.pages_total, 10u);
  EXPECT_EQ(m.pages_used + m.pages_cached + m.pages_reserved + m.pages_peak, 0u);
}

TEST_P(Capacity, ABudgetMustHoldAnchorPrimerAndAPage) {
  const std::string anchor = digits(17, 1), primer = digits(8, 2);
  for (const uint64_t pages : {4u, 5u}) {
    tsr::ContextOptions options = small(pages);
    options.flags = 0;
    options.set_anchor(anchor);
    options.set_primer(primer);
    std::string message;
    const tsr_status status = status_of([&] { this->context(options); }, &message);
    EXPECT_EQ(status, pages < 5 ? TSR_CAPACITY : TSR_OK);
    if (pages < 5) {
      EXPECT_NE(message.find(bytes(5)), std::string::npos) << message;
    }
  }
}

TEST_P(Capacity, WhatDoesNotFitIsRefusedBeforeAnythingIsComputed) {
  const tsr::Context context = this->context(small(4));
  tsr::Session session(context);
  session.add_text(digits(20, 1));
  std::string message;
  // 20 + 13 tokens are 5 pages.
  EXPECT_EQ(status_of([&] { session.generate(greedy(13)); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find("has " + bytes(4) + " bytes left"), std::string::npos) << message;
  EXPECT_NE(message.find("needs " + bytes(5) + ", " + bytes(1) + " more"), std::string::npos)
      << message;
  EXPECT_EQ(context.metrics().steps, 0u);
  expect_idle(context);
  EXPECT_EQ(generate(session, greedy(12)).size(), 12u) << "just fits";
  EXPECT_EQ(context.metrics().pages_used, 4u);
  expect_idle(context);
  session.add_text("x");
  EXPECT_EQ(status_of([&] { session.generate(greedy(1)); }), TSR_CAPACITY);
  expect_idle(context);
}

TEST_P(Capacity, ReservationsOfRunningAnswersCount) {
  const tsr::Context context = this->context(small(10));
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session running(context, narrow), other(context);
  running.add_text(digits(8, 1));
  running.generate(greedy(48));  // 7 pages, most of them still to come
  other.add_text(digits(8, 2));
  std::string message;
  EXPECT_EQ(status_of([&] { other.generate(greedy(24)); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find("has " + bytes(3) + " bytes left"), std::string::npos) << message;
  EXPECT_EQ(generate(other, greedy(16)).size(), 16u) << "3 pages are left";
  EXPECT_EQ(read(running).tokens, 48u) << "its reservation was kept";
  expect_idle(context);
}

// A request that is refused gives back what it had attached: those pages were promised to others.
TEST_P(Capacity, ARefusedRequestHoldsNothing) {
  const tsr::Context context = this->context(small(8));
  const tsr::Chunk chunk(context, digits(32, 1));
  ASSERT_TRUE(chunk.wait());
  EXPECT_EQ(context.metrics().pages_cached, 4u);
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session running(context, narrow), refused(context);
  running.add_text(digits(8, 2));
  running.generate(greedy(56));  // all 8 pages: the chunk's will be evicted
  refused.add_chunk(chunk);
  refused.add_text("?");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(status_of([&] { refused.generate(greedy(1)); }), TSR_CAPACITY);
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    EXPECT_EQ(refused.info().computed, 0u);
  }
  EXPECT_EQ(read(running).tokens, 56u);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  EXPECT_EQ(chunk.info().uses, 0u);
  running.reset();
  EXPECT_EQ(generate(refused, greedy(1)).size(), 1u) << "encoded again";
  expect_idle(context);
}

// ... prefix runs likewise.
TEST_P(Capacity, ARefusedRequestLetsGoOfPrefixRuns) {
  const tsr::Context context = this->context(small(8));
  {
    tsr::Session first(context);
    first.add_text(digits(33, 1));
    generate(first, greedy(1));
  }
  EXPECT_EQ(context.metrics().pages_cached, 4u);
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session running(context, narrow), refused(context);
  running.add_text(digits(8, 2));
  running.generate(greedy(56));
  refused.add_text(digits(33, 1));
  const uint64_t uses = engine::ContextProbe(context.get()).prefix_uses();
  EXPECT_GE(uses, 4u);
  EXPECT_EQ(status_of([&] { refused.generate(greedy(1)); }), TSR_CAPACITY);
  EXPECT_EQ(status_of([&] { refused.generate(greedy(1)); }), TSR_CAPACITY);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  EXPECT_EQ(context.metrics().prefix_tokens, 0u);
  EXPECT_LT(engine::ContextProbe(context.get()).prefix_uses(), uses + 4)
      << "it took nothing; the other may have left a block meanwhile";
  EXPECT_EQ(read(running).tokens, 56u);
  running.reset();
  EXPECT_EQ(generate(refused, greedy(1)).size(), 1u);
}

// Two sessions compute the same text at the same time, with hardly room for both.
TEST_P(Capacity, SessionsThatComputeTheSame) {
  tsr::ContextOptions options = small(12);
  options.max_step_tokens = 8;
  const tsr::Context context = this->context(options);
  for (int round = 0; round < 5; ++round) {
    tsr::Session a(context), b(context), c(context);
    a.add_text(digits(25, static_cast<uint64_t>(round)));
    b.add_text(digits(25, static_cast<uint64_t>(round)));
    c.add_text(digits(17, 99));
    a.generate(greedy(6));
    b.generate(greedy(6));
    c.generate(greedy(6));
    for (tsr::Session* session : {&a, &b, &c}) EXPECT_EQ(read(*session).status, TSR_OK);
    expect_idle(context);
  }
}

// A run that can be taken only when the chunk in front of it has come back: then what was reserved
// to compute it is free for others.
TEST_P(Capacity, RunsTakenOnTheWayReleaseTheirReservation) {
  const tsr::Context context = this->context(small(11));
  const tsr::Chunk chunk(context, digits(16, 1));
  const auto ask = [&](tsr::Session& session, uint32_t tokens) {
    session.add_chunk(chunk);
    session.add_text(digits(33, 2));
    session.generate(greedy(tokens));
  };
  {
    tsr::Session first(context);
    ask(first, 1);
    read(first);
  }
  {
    tsr::Session large(context);  // 6 pages, 5 are free: the chunk goes, its run stays
    large.add_text(digits(41, 3));
    generate(large, greedy(7));
  }
  ASSERT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session session(context, narrow);
  ask(session, 7);
  EXPECT_EQ(session.next()->kind, TSR_EVENT_PROGRESS);
  EXPECT_EQ(session.report().tokens_computed, 1u);
  EXPECT_EQ(context.metrics().pages_reserved, 0u) << "33 and 7 tokens fill 5 pages, 4 were taken";
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  read(session);
}

TEST_P(Capacity, EvictsTheLongestUnused) {
  const tsr::Context context = this->context(small(9));
  const tsr::Chunk a(context, digits(16, 1), lazy()), b(context, digits(16, 2), lazy());
  const tsr::Chunk c(context, digits(16, 3), lazy());
  for (const tsr::Chunk* chunk : {&a, &b, &c}) ASSERT_TRUE(chunk->wait());
  {
    tsr::Session session(context);  // uses `a` again
    session.add_chunk(a);
    session.add_text("?");
    generate(session, greedy(1));
  }
  EXPECT_EQ(context.metrics().chunks, 3u);
  tsr::Session large(context);
  large.add_text(digits(24, 4));
  generate(large, greedy(8));  // 4 pages, 3 are free
  EXPECT_EQ(b.info().state, TSR_CHUNK_ABSENT) << "the longest unused";
  EXPECT_EQ(a.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(c.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(b.info().bytes, 0u);
  EXPECT_EQ(context.metrics().chunks, 2u);
  // It comes back when it is needed, for the next longest unused.
  EXPECT_TRUE(b.wait());
  EXPECT_EQ(c.info().state, TSR_CHUNK_ABSENT);
  expect_idle(context);
}

// Of a run, what comes last goes first: its beginning still serves.
TEST_P(Capacity, EvictsRunsFromTheirEnds) {
  const tsr::Context context = this->context(small(8));
  {
    tsr::Session session(context);
    session.add_text(digits(49, 1));
    generate(session, greedy(1));
  }
  EXPECT_EQ(context.metrics().pages_cached, 6u);
  {
    tsr::Session session(context);
    session.add_text(digits(31, 2));
    generate(session, greedy(1));  // 4 pages, 2 are free
  }
  tsr::Session again(context);
  again.add_text(digits(49, 1).substr(0, 40));
  generate(again, greedy(1));
  EXPECT_EQ(again.report().tokens_exact, 32u);
}

TEST_P(Capacity, NeverAPageInUse) {
  const tsr::Context context = this->context(small(6));
  const tsr::Chunk chunk(context, digits(16, 1));
  tsr::Session holder(context);
  holder.add_chunk(chunk);
  holder.add_text("?");
  generate(holder, greedy(2));  // 3 pages, idle
  engine::ContextProbe probe(context.get());
  const auto before = probe.bytes_of(chunk.get());
  ASSERT_EQ(before.size(), 2u);
  tsr::Session other(context);
  other.add_text(digits(10, 2));
  std::string message;
  EXPECT_EQ(status_of([&] { other.generate(greedy(15)); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find("has " + bytes(3) + " bytes left"), std::string::npos) << message;
  EXPECT_EQ(generate(other, greedy(14)).size(), 14u);
  EXPECT_EQ(probe.bytes_of(chunk.get()), before);
  holder.add_text("!");
  EXPECT_EQ(generate(holder, greedy(2)).size(), 2u);
  holder.reset();
  other.reset();
  expect_only_caches(context);
}

// A chunk is gone when it is needed: encoded again, with the same answer.
TEST_P(Capacity, EvictedChunksAreEncodedAgain) {
  const tsr::Context context = this->context(small(7));
  const tsr::Chunk a(context, digits(20, 1), lazy()), b(context, digits(20, 2), lazy());
  std::vector<std::vector<int32_t>> answers;
  for (int i = 0; i < 6; ++i) {
    tsr::Session session(context);
    session.add_chunk(i % 2 == 0 ? a : b);
    session.add_text(digits(9, 3));
    answers.push_back(generate(session, greedy(7)));
    if (i >= 2) {
      EXPECT_EQ(answers[static_cast<size_t>(i)], answers[static_cast<size_t>(i - 2)]);
    }
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  }
  EXPECT_GT(context.metrics().computed_tokens, 6 * 9u + 3 * 20) << "nothing was evicted";
  expect_only_caches(context);
}

// Pages for one short answer only: everything else goes in between.
TEST_P(Capacity, ABudgetOfTwoPages) {
  const tsr::Context context = this->context(small(2));
  for (uint64_t i = 0; i < 8; ++i) {
    tsr::Session session(context), alone(this->context());
    session.add_text(digits(9, i));
    alone.add_text(digits(9, i));
    EXPECT_EQ(generate(session, greedy(7)), generate(alone, greedy(7)));
    expect_idle(context);
  }
  EXPECT_EQ(context.metrics().pages_peak, 2u);
}

// A chunk without room now is encoded when a session needs it.
TEST_P(Capacity, AChunkWaitsForRoom) {
  const tsr::Context context = this->context(small(6));
  tsr::Session holder(context);
  holder.add_text(digits(30, 1));
  generate(holder, greedy(1));
  const tsr::Chunk chunk(context, digits(24, 2));
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  EXPECT_EQ(status_of([&] { chunk.wait(); }), TSR_CAPACITY);
  tsr::Session session(context);
  session.add_chunk(chunk);
  session.add_text("?");
  EXPECT_EQ(status_of([&] { session.generate(greedy(1)); }), TSR_CAPACITY);
  expect_idle(context);
  holder.reset();
  EXPECT_EQ(generate(session, greedy(1)).size(), 1u);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);
  expect_idle(context);
}

}  // namespace
}  // namespace tessera::test
