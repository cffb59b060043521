// The repair dial: heads, selected tokens, what later turns and other sessions find of them.
#include "tests/unit/engine/repair_fixture.hpp"

namespace tessera::test {
namespace {

class RepairTest : public RepairFixture {};
TESSERA_ON_EACH_DEVICE(RepairTest);

// All that is approximate computed again in place is an ordinary prompt.
TEST_P(RepairTest, RepairingEverythingIsFullPrefill) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  const std::vector<float> full = ask(context, made, repair(TSR_REPAIR_FULL));
  EXPECT_GT(largest_difference(full, ask(context, made, repair(TSR_REPAIR_NONE))), 1e-2f);
  const Dial all[] = {{TSR_REPAIR_HEAD, 64, 0},
                      {TSR_REPAIR_SELECT, 0, 1},
                      {TSR_REPAIR_HEAD_SELECT, 5, 1},
                      {TSR_REPAIR_HEAD_SELECT, 8, 1},
                      {TSR_REPAIR_HEAD_SELECT, 8, 0.9f}};
  for (const Dial& dial : all) {
    const tsr::Context fresh = exact();
    tsr::Report report;
    EXPECT_LT(largest_difference(full, ask(fresh, chunks(fresh), dial.options(), &report)), 1e-4f)
        << dial.mode << ", head " << dial.head;
    EXPECT_EQ(report.tokens_approximate, 0u);
    EXPECT_EQ(report.tokens_repaired, kChunkTokens - made[0].info().tokens) << "all but the exact";
  }
}

TEST_P(RepairTest, CountsWhatItRepairs) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  const std::vector<float> full = ask(context, made, repair(TSR_REPAIR_FULL));
  const std::vector<float> none = ask(context, made, repair(TSR_REPAIR_NONE));
  std::vector<std::vector<float>> seen = {full, none};
  const Dial dials[] = {{TSR_REPAIR_HEAD}, {TSR_REPAIR_SELECT}, {TSR_REPAIR_HEAD_SELECT}};
  for (const Dial& dial : dials) {
    const tsr::Context fresh = exact();
    tsr::Report report;
    const std::vector<float> logits = ask(fresh, chunks(fresh), dial.options(), &report);
    for (const std::vector<float>& other : seen) EXPECT_NE(logits, other) << dial.mode;
    seen.push_back(logits);
    const uint64_t heads = dial.mode == TSR_REPAIR_SELECT ? 0 : 2 * dial.head;
    // A fifth of the two chunks that are not exact.
    const uint64_t selected = dial.mode == TSR_REPAIR_HEAD ? 0 : 50 / 5;
    EXPECT_EQ(report.tokens_repaired, heads + selected);
    EXPECT_EQ(report.tokens_approximate, 50 - heads - selected);
  }
}

// The same bits whatever slices and neighbours a prompt has.
TEST_P(RepairTest, SlicesAndNeighboursChangeNoBit) {
  std::vector<float> first;
  std::vector<std::vector<int32_t>> chosen;
  for (const uint32_t step : {1u, 3u, 7u, 16u, 64u}) {
    const tsr::Context context = exact(step);
    const std::vector<tsr::Chunk> made = chunks(context);
    tsr::Session neighbour(context);
    neighbour.add_text(digits(90, 9));
    neighbour.generate(greedy(40));
    const std::vector<float> logits = ask(context, made, Dial{}.options());
    tsr::Session again(context, Dial{}.options()), other(context, Dial{}.options());
    for (tsr::Session* session : {&again, &other}) {
      add(*session, made);
      session->add_text("and which of them?");
      session->generate(greedy(1));
    }
    for (tsr::Session* session : {&again, &other, &neighbour}) read(*session);
    if (first.empty()) {
      first = logits;
      chosen = selected(context, again);
      ASSERT_EQ(chosen.size(), 1u);
    }
    EXPECT_EQ(logits, first) << "steps of " << step;
    EXPECT_EQ(selected(context, again), chosen) << "steps of " << step;
    EXPECT_EQ(selected(context, other), chosen) << "steps of " << step;
  }
}

// Whoever begins the same way finds the heads computed; what a question selected is its own.
TEST_P(RepairTest, HeadsAreFoundAgain) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  const Dial heads{TSR_REPAIR_HEAD};
  tsr::Report cold, warm, other, none;
  const std::vector<float> logits = ask(context, made, heads.options(), &cold);
  EXPECT_EQ(ask(context, made, heads.options(), &warm), logits);
  EXPECT_EQ(cold.tokens_repaired, 10u);
  EXPECT_EQ(warm.tokens_repaired, 0u);
  EXPECT_LT(warm.tokens_computed, cold.tokens_computed) << "and the text behind them";
  // The same heads in front of a selection.
  const std::vector<float> selected = ask(context, made, Dial{}.options(), &other);
  EXPECT_EQ(other.tokens_repaired, 10u) << "the selected ones";
  EXPECT_EQ(ask(context, made, Dial{}.options(), &other), selected);
  EXPECT_EQ(other.tokens_repaired, 10u);
  const tsr::Context fresh = exact();
  EXPECT_EQ(ask(fresh, chunks(fresh), Dial{}.options()), selected) << "found or computed: the same";
  // Text behind repaired chunks is nobody's who does without.
  const std::vector<float> plain = ask(fresh, chunks(fresh), repair(TSR_REPAIR_NONE));
  EXPECT_EQ(ask(context, made, repair(TSR_REPAIR_NONE), &none), plain);
  // Another length of head is another context.
  const Dial longer{TSR_REPAIR_HEAD, 6};
  EXPECT_EQ(ask(context, made, longer.options(), &other),
            ask(fresh, chunks(fresh), longer.options()));
  EXPECT_EQ(other.tokens_repaired, 12u);
}

TEST_P(RepairTest, ASecondTurnRepairsNothing) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
    Dial dial;
    dial.flags = flags;
    tsr::Session session(context, dial.options());
    add(session, made);
    session.add_text("the first question");
    generate(session, greedy(7));
    EXPECT_GT(session.report().tokens_repaired, 0u);
    const uint64_t before = session.info().computed;
    session.add_text("the second question");
    const uint64_t added = session.info().tokens - before;
    generate(session, greedy(7));
    const tsr::Report second = session.report();
    EXPECT_EQ(second.tokens_repaired, flags ? 10u : 0u);
    EXPECT_EQ(second.tokens_computed, added);
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    // A chunk that comes later is selected from at the first question behind it.
    const tsr::Chunk later(context, digits(30, 7));
    session.add_chunk(later);
    session.add_text("the third question");
    generate(session, greedy(3));
    EXPECT_EQ(session.report().tokens_repaired, flags ? 5 + 80 / 5 : 5 + 30 / 5);
    expect_idle(context);
  }
  expect_only_caches(context);
}

// What was selected for an earlier question is all put back.
TEST_P(RepairTest, ReselectingEverythingIsFullPrefill) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  Dial dial{TSR_REPAIR_SELECT, 0, 1, TSR_SESSION_RESELECT};
  tsr::Session session(context, dial.options()), whole(context, repair(TSR_REPAIR_FULL));
  for (tsr::Session* s : {&session, &whole}) {
    add(*s, made);
    for (const char* text : {"one", "two", "three"}) {
      s->add_text(text);
      s->evaluate();
    }
  }
  EXPECT_LT(largest_difference(session.evaluate(), whole.evaluate()), 1e-4f);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
}

// Cancelled anywhere, a session goes on as if it had not been.
TEST_P(RepairTest, ACancelLeavesNoTrace) {
  const tsr::Context context = exact(4), fresh = exact(4);
  const std::vector<tsr::Chunk> made = chunks(context);
  tsr::Session calm(fresh, Dial{}.options());
  add(calm, chunks(fresh));
  calm.add_text("and which of them?");
  const std::vector<int32_t> expected = generate(calm, greedy(5));
  engine::ContextProbe probe(context.get());
  for (uint64_t steps = 0; steps < 24; ++steps) {
    tsr::Session session(context, Dial{}.options());
    add(session, made);
    session.add_text("and which of them?");
    const uint64_t begun = context.metrics().steps;
    session.generate(greedy(5));
    while (context.metrics().steps < begun + steps && !probe.idle()) {
    }
    session.cancel();
    const Answer answer = read(session);
    EXPECT_EQ(probe.check(), "");
    if (answer.tokens > 0) continue;  // it was too late
    EXPECT_EQ(generate(session, greedy(5)), expected) << "cancelled after " << steps << " steps";
    EXPECT_EQ(probe.check(), "");
  }
  expect_only_caches(context);
}

TEST_P(RepairTest, SharedPagesStayAsTheyAre) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  for (const tsr::Chunk& chunk : made) chunk.wait();
  engine::ContextProbe probe(context.get());
  std::vector<std::vector<std::vector<uint8_t>>> before;
  for (const tsr::Chunk& chunk : made) before.push_back(probe.bytes_of(chunk.get()));
  for (const tsr_repair mode : {TSR_REPAIR_HEAD, TSR_REPAIR_SELECT, TSR_REPAIR_HEAD_SELECT}) {
    ask(context, made, Dial{mode}.options());
  }
  for (size_t i = 0; i < made.size(); ++i) EXPECT_EQ(probe.bytes_of(made[i].get()), before[i]);
}

// Chunks of a token, of a page, shorter than a head; the same one twice; text between them; a chunk
// behind the question.
TEST_P(RepairTest, OddPrompts) {
  const tsr::Context context = exact();
  const tsr::Chunk one(context, digits(1, 1)), page(context, digits(8, 2)),
      some(context, digits(30, 3));
  for (const uint32_t head : {1u, 7u, 8u, 9u, 16u}) {
    for (const float share : {0.01f, 0.3f, 1.0f}) {
      const Dial dial{TSR_REPAIR_HEAD_SELECT, head, share};
      tsr::Session session(context, dial.options()), whole(context, repair(TSR_REPAIR_FULL));
      for (tsr::Session* s : {&session, &whole}) {
        s->add_text("no anchor");
        s->add_chunk(one);
        s->add_chunk(page);
        s->add_text(digits(11, 5));
        s->add_chunk(some);
        s->add_chunk(some);
      }
      EXPECT_EQ(session.tokens(), whole.tokens());
      session.evaluate();  // no question: nothing to select by
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      for (tsr::Session* s : {&session, &whole}) {
        s->add_text("?");
        s->add_chunk(page);
      }
      generate(session, greedy(4));
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      expect_idle(context);
    }
  }
  expect_only_caches(context);
}

TEST_P(RepairTest, RoomForRepairsIsReserved) {
  const Dial dial{TSR_REPAIR_HEAD_SELECT, 8, 0.5f};
  for (uint64_t pages = 22; pages < 60; pages += 2) {
    const tsr::Context context = exact(16, pages);
    tsr::Session session(context, dial.options());
    const tsr::Chunk chunk(context, digits(64, 1));
    session.add_text("x");
    session.add_chunk(chunk);
    session.add_text("?");
    const tsr_status status = status_of([&] { generate(session, greedy(8)); });
    EXPECT_TRUE(status == TSR_OK || status == TSR_CAPACITY);
    expect_idle(context);
  }
}

}  // namespace
}  // namespace tessera::test
