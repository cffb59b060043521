// What a session tells of its repairs: counts, bytes, times, progress.
#include <algorithm>
#include <set>

#include "tests/unit/engine/repair_fixture.hpp"

namespace tessera::test {
namespace {

class RepairReport : public RepairFixture {};
TESSERA_ON_EACH_DEVICE(RepairReport);

const Dial kDials[] = {{TSR_REPAIR_NONE},
                       {TSR_REPAIR_HEAD},
                       {TSR_REPAIR_HEAD, 64},
                       {TSR_REPAIR_SELECT},
                       {TSR_REPAIR_SELECT, 0, 1},
                       {TSR_REPAIR_HEAD_SELECT},
                       {TSR_REPAIR_HEAD_SELECT, 5, 0.99f},
                       {TSR_REPAIR_HEAD_SELECT, 5, 1},
                       {TSR_REPAIR_HEAD_SELECT, 8, 0.5f, TSR_SESSION_RESELECT},
                       {TSR_REPAIR_FULL}};

// Pages of a session that is at rest, each once: of all who may read them, and its own.
void expect_bytes(const tsr::Context& context, const tsr::Session& session) {
  std::set<const kv::Block*> shared, own;
  for (const engine::Segment& s : engine::ContextProbe(context.get()).segments(session.get())) {
    for (const kv::BlockRef& block : s.span.blocks) {
      // The session's and this look's.
      const bool is_shared = !s.computed_here() || block.use_count() > 2;
      (is_shared ? shared : own).insert(block.get());
    }
  }
  const uint64_t page = context.metrics().page_bytes;
  EXPECT_EQ(session.report().bytes_shared, shared.size() * page);
  EXPECT_EQ(session.report().bytes_private, own.size() * page);
}

TEST_P(RepairReport, CountsAndBytesInEveryTurn) {
  for (const Dial& dial : kDials) {
    SCOPED_TRACE("dial " + std::to_string(dial.mode) + ", head " + std::to_string(dial.head));
    const tsr::Context context = exact();
    const std::vector<tsr::Chunk> made = chunks(context);
    tsr::Session session(context, dial.options()), other(context, dial.options());
    for (tsr::Session* s : {&session, &other}) {
      add(*s, made);
      s->add_chunk(made[0]);
      s->add_chunk(made[0]);
      for (const char* question : {"one?", "and the second question?", "three?"}) {
        s->add_text(question);
        const uint64_t prompt = s->info().tokens;
        s->evaluate();
        expect_report(*s, prompt);
        expect_bytes(context, *s);
        s->evaluate();
        expect_report(*s, prompt);
        expect_bytes(context, *s);
        tsr::GenerateOptions options = greedy(9);
        options.lookup_tokens = 4;
        generate(*s, options);
        expect_report(*s, prompt);
        const tsr::Report r = s->report();
        EXPECT_LE(r.repair_us, r.prompt_us);
        EXPECT_LE(r.lookup_us + r.prompt_us, r.first_token_us + 2) << "in rounded microseconds";
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      }
      s->add_chunk(made[2]);
      s->add_text("four?");
      const uint64_t prompt = s->info().tokens;
      s->evaluate();
      expect_report(*s, prompt);
      expect_bytes(context, *s);
    }
  }
}

TEST_P(RepairReport, TimeOfRepairs) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  tsr::Report report;
  ask(context, made, repair(TSR_REPAIR_NONE), &report);
  EXPECT_EQ(report.repair_us, 0u);
  for (const tsr_repair mode : {TSR_REPAIR_HEAD, TSR_REPAIR_SELECT, TSR_REPAIR_HEAD_SELECT}) {
    ask(context, made, Dial{mode, 9, 0.4f}.options(), &report);
    EXPECT_GT(report.repair_us, 0u) << mode;
    EXPECT_LE(report.repair_us, report.prompt_us) << mode;
  }
  ask(context, made, Dial{TSR_REPAIR_HEAD, 9}.options(), &report);
  EXPECT_EQ(report.repair_us, 0u) << "found";
}

// Progress never goes back, and ends with the prompt.
TEST_P(RepairReport, Progress) {
  const tsr::Context context = exact(1);
  const std::vector<tsr::Chunk> made = chunks(context);
  for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
    tsr::Session session(context, Dial{TSR_REPAIR_HEAD_SELECT, 5, 0.4f, flags}.options());
    add(session, made);
    for (int turn = 0; turn < 2; ++turn) {
      session.add_text("and which of them?");
      const uint64_t prompt = session.info().tokens;
      session.generate(greedy(1));
      std::vector<uint64_t> processed;
      while (true) {
        const auto event = session.next();
        if (event->kind == TSR_EVENT_DONE) break;
        if (event->kind != TSR_EVENT_PROGRESS) continue;
        processed.push_back(event->processed);
        EXPECT_EQ(event->total, prompt);
        EXPECT_LE(session.info().computed, prompt);
      }
      ASSERT_FALSE(processed.empty());
      EXPECT_TRUE(std::ranges::is_sorted(processed));
      EXPECT_EQ(processed.back(), prompt);
    }
  }
}

// Where a prompt is cut short its counts add up to what is ready: nothing of a probe.
TEST_P(RepairReport, OfAPromptCutShort) {
  const tsr::Context context = exact(2);
  const std::vector<tsr::Chunk> made = chunks(context);
  for (uint64_t steps = 0; steps < 30; ++steps) {
    tsr::Session session(context,
                         Dial{TSR_REPAIR_HEAD_SELECT, 5, 0.99f, TSR_SESSION_RESELECT}.options());
    add(session, made);
    session.add_text("and which of them?");
    const uint64_t begun = context.metrics().steps;
    session.generate(greedy(2));
    engine::ContextProbe probe(context.get());
    while (context.metrics().steps < begun + steps && !probe.idle()) {
    }
    session.cancel();
    const Answer answer = read(session);
    const tsr::Report r = session.report();
    const uint64_t sum =
        r.tokens_exact + r.tokens_repaired + r.tokens_approximate + r.tokens_computed;
    if (answer.tokens == 0) {
      EXPECT_EQ(sum, session.info().computed);
    }
    // More is asked now, so that all is chosen anew, whatever is left of the choice before.
    session.add_text("or not?");
    const uint64_t prompt = session.info().tokens;
    generate(session, greedy(2));
    expect_report(session, prompt);
    const tsr::Report next = session.report();
    for (const uint64_t count :
         {next.tokens_exact, next.tokens_repaired, next.tokens_approximate, next.tokens_computed}) {
      EXPECT_LE(count, prompt);
    }
    EXPECT_GE(next.tokens_repaired, 40u) << "all that heads do not cover";
    expect_idle(context);
  }
}

}  // namespace
}  // namespace tessera::test
