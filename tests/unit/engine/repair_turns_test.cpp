// Repairs over the turns of a conversation, and what one session's repairs mean to others.
#include <algorithm>
#include <functional>
#include <map>

#include "tests/unit/engine/repair_fixture.hpp"

namespace tessera::test {
namespace {

class RepairTurns : public RepairFixture {};
TESSERA_ON_EACH_DEVICE(RepairTurns);

const Dial kDials[] = {{TSR_REPAIR_FULL},      {TSR_REPAIR_NONE},        {TSR_REPAIR_HEAD},
                       {TSR_REPAIR_HEAD, 9},   {TSR_REPAIR_SELECT},      {TSR_REPAIR_HEAD_SELECT},
                       {TSR_REPAIR_HEAD, 200}, {TSR_REPAIR_SELECT, 0, 1}};

uint64_t anchor_tokens(const tsr::Context& context) {
  tsr::Session session(context);
  session.add_anchor();
  return session.info().tokens;
}

// Text, chunks, text: enough behind them for whole pages of a prefix run.
std::vector<std::vector<float>> talk(const tsr::Context& context, const Dial& dial) {
  const std::vector<tsr::Chunk> made = chunks(context);
  tsr::Session session(context, dial.options());
  session.add_text(digits(11, 1));
  session.add_chunk(made[1]);
  session.add_text(digits(19, 2));
  session.add_chunk(made[0]);
  session.add_text(digits(20, 3));
  std::vector<std::vector<float>> rows = {session.evaluate()};
  session.add_text(digits(17, 4));
  rows.push_back(session.evaluate());
  expect_report(session, session.info().tokens);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  return rows;
}

// Whatever was computed before, in whichever order: a session's bits are those of a fresh context.
TEST_P(RepairTurns, NoRunServesAnotherDial) {
  std::vector<std::vector<std::vector<float>>> alone;
  for (const Dial& dial : kDials) alone.push_back(talk(exact(), dial));
  for (size_t first = 0; first < std::size(kDials); first += 3) {
    const tsr::Context context = exact();
    for (size_t i = 0; i < 2 * std::size(kDials); ++i) {
      const size_t dial = (first + i * 3) % std::size(kDials);
      EXPECT_EQ(talk(context, kDials[dial]), alone[dial]) << "dial " << dial << " from " << first;
    }
    // Nor does it serve who brings the same tokens as text.
    tsr::Session text(context), other(exact());
    for (tsr::Session* s : {&text, &other}) {
      s->add_text(digits(11, 1) + digits(37, 37) + digits(19, 2));
    }
    EXPECT_EQ(text.evaluate(), other.evaluate());
  }
}

// Two that begin at once share one encoding, whatever they repair.
TEST_P(RepairTurns, OneEncodingForTwo) {
  for (const Dial& dial : kDials) {
    if (dial.mode == TSR_REPAIR_FULL || dial.head > 13) continue;
    const tsr::Context context = exact();
    const std::vector<tsr::Chunk> made = chunks(context, TSR_CHUNK_LAZY);
    const tsr::Context fresh = exact();
    const std::vector<float> wanted = ask(fresh, chunks(fresh), dial.options());
    std::vector<tsr::Session> sessions;
    for (int i = 0; i < 2; ++i) sessions.emplace_back(context, dial.options());
    for (tsr::Session& session : sessions) {
      add(session, made);
      session.add_text("and which of them?");
    }
    for (tsr::Session& session : sessions) session.generate(greedy(1));
    for (tsr::Session& session : sessions) read(session);
    EXPECT_EQ(sessions[0].tokens(), sessions[1].tokens());
    for (const tsr::Chunk& chunk : made) EXPECT_EQ(chunk.info().uses, 2u);
    // Anchor and chunks once; of each session what it says and, where it chose, its question twice.
    uint64_t computed = kChunkTokens + anchor_tokens(context);
    for (const tsr::Session& session : sessions) {
      const tsr::Report report = session.report();
      computed += report.tokens_computed + report.tokens_repaired;
      if (!selected(context, session).empty()) computed += report.tokens_computed;
    }
    EXPECT_EQ(context.metrics().computed_tokens, computed) << dial.mode;
    expect_idle(context);
    tsr::Session third(context, dial.options());
    add(third, made);
    third.add_text("and which of them?");
    EXPECT_EQ(third.evaluate(), wanted);
  }
}

// An answer that goes on is no question: it neither chooses anew nor uses up a chunk's choice.
TEST_P(RepairTurns, OnlyAQuestionChooses) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  const Dial dial{TSR_REPAIR_SELECT, 0, 0.2f, TSR_SESSION_RESELECT};
  tsr::Session session(context, dial.options()), whole(context, dial.options());
  for (tsr::Session* s : {&session, &whole}) {
    add(*s, made);
    s->add_text("and which of them?");
  }
  generate(session, greedy(3));
  const auto chosen = selected(context, session);
  for (int i = 0; i < 3; ++i) {
    generate(session, greedy(3));
    EXPECT_EQ(session.report().tokens_repaired, 0u);
    EXPECT_EQ(session.report().tokens_computed, 1u);
    EXPECT_EQ(selected(context, session), chosen);
  }
  generate(whole, greedy(12));
  EXPECT_EQ(session.tokens(), whole.tokens()) << "in pieces or at once";

  // Nothing behind the chunks: the answer, and what it goes on with, have nothing to choose by.
  for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
    tsr::Session bare(context, Dial{TSR_REPAIR_SELECT, 0, 0.2f, flags}.options());
    add(bare, made);
    for (int i = 0; i < 3; ++i) {
      generate(bare, greedy(4));
      EXPECT_TRUE(selected(context, bare).empty());
    }
    bare.add_text("?");
    generate(bare, greedy(4));
    EXPECT_EQ(selected(context, bare).size(), 1u) << "the first question";
    EXPECT_EQ(bare.report().tokens_repaired, 49 / 5u) << "of all but the last token";
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  }
}

// A chunk whose question had nothing to choose, its share being less than a token, stays as it is.
TEST_P(RepairTurns, NothingToChooseIsAChoice) {
  const tsr::Context context = exact();
  const tsr::Chunk a(context, digits(15, 1)), b(context, digits(25, 2));
  const Dial dial{TSR_REPAIR_SELECT, 0, 0.05f};
  tsr::Session session(context, dial.options()), none(context, repair(TSR_REPAIR_NONE));
  for (tsr::Session* s : {&session, &none}) {
    s->add_text("x");
    s->add_chunk(a);
    s->add_text("first?");
  }
  EXPECT_EQ(session.evaluate(), none.evaluate());
  EXPECT_EQ(session.report().tokens_repaired, 0u);
  const auto before = static_cast<int32_t>(session.info().tokens);
  session.add_chunk(b);
  session.add_text("second?");
  session.evaluate();
  const auto chosen = selected(context, session);
  ASSERT_EQ(chosen.size(), 1u);
  ASSERT_EQ(chosen[0].size(), 1u) << "a twentieth of 25";
  EXPECT_GE(chosen[0][0], before) << "of the chunk that had no question behind it";
}

// Shares are what they say.
TEST_P(RepairTurns, Shares) {
  const tsr::Context context = exact();
  const tsr::Chunk chunk(context, digits(10, 1));
  for (int tenths = 1; tenths <= 10; ++tenths) {
    const Dial dial{TSR_REPAIR_SELECT, 0, static_cast<float>(tenths) / 10};
    tsr::Session session(context, dial.options());
    session.add_text("x");
    session.add_chunk(chunk);
    session.add_text("?");
    session.evaluate();
    EXPECT_EQ(session.report().tokens_repaired, static_cast<uint64_t>(tenths));
    EXPECT_EQ(session.report().tokens_approximate, static_cast<uint64_t>(10 - tenths));
  }
}

// All repaired is an ordinary prompt, wherever chunks stand: of a token, of a page, shorter than a
// head, twice, side by side, behind the question, alone.
TEST_P(RepairTurns, OddPromptsRepairedWhole) {
  const tsr::Context context = exact();
  const tsr::Chunk one(context, digits(1, 1)), page(context, digits(8, 2)),
      some(context, digits(30, 3));
  using Build = std::function<void(tsr::Session&)>;
  const std::map<std::string, Build> builds = {
      {"side by side",
       [&](tsr::Session& s) {
         s.add_text("no anchor");
         for (const tsr::Chunk* c : {&some, &some, &one, &one, &page, &page}) s.add_chunk(*c);
         s.add_text("?");
       }},
      {"first",
       [&](tsr::Session& s) {
         s.add_chunk(some);
         s.add_chunk(some);
         s.add_text("what?");
       }},
      {"a token",
       [&](tsr::Session& s) {
         s.add_text("x");
         s.add_chunk(one);
         s.add_text("?");
       }},
      {"behind the question", [&](tsr::Session& s) {
         s.add_anchor();
         s.add_text("what is in it?");
         s.add_chunk(some);
         s.add_chunk(page);
         s.add_text("!");
       }}};
  const Dial dials[] = {{TSR_REPAIR_HEAD, 30},
                        {TSR_REPAIR_HEAD, 64},
                        {TSR_REPAIR_SELECT, 0, 1},
                        {TSR_REPAIR_HEAD_SELECT, 1, 0.99f},
                        {TSR_REPAIR_HEAD_SELECT, 7, 0.99f},
                        {TSR_REPAIR_HEAD_SELECT, 8, 0.99f},
                        {TSR_REPAIR_HEAD_SELECT, 9, 0.99f},
                        {TSR_REPAIR_HEAD_SELECT, 29, 1}};
  for (const auto& [name, build] : builds) {
    for (const Dial& dial : dials) {
      SCOPED_TRACE(name + ", dial " + std::to_string(dial.mode) + ", head " +
                   std::to_string(dial.head));
      tsr::Session session(context, dial.options()), whole(context, repair(TSR_REPAIR_FULL));
      for (tsr::Session* s : {&session, &whole}) build(*s);
      EXPECT_EQ(session.tokens(), whole.tokens());
      const std::vector<float> full = whole.evaluate();
      EXPECT_LT(largest_difference(session.evaluate(), full), 1e-4f);
      expect_report(session, session.info().tokens);
      EXPECT_EQ(session.report().tokens_approximate, 0u);
      EXPECT_LT(largest_difference(session.evaluate(), full), 1e-4f) << "once more";
      EXPECT_EQ(session.report().tokens_repaired, 0u);
      for (tsr::Session* s : {&session, &whole}) s->add_text("go on");
      EXPECT_LT(largest_difference(session.evaluate(), whole.evaluate()), 1e-4f);
      EXPECT_EQ(session.report().tokens_repaired, 0u);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    }
  }
  expect_only_caches(context);
}

// Heads that cover whole chunks leave nothing approximate: text between them is exact, too.
TEST_P(RepairTurns, WholeHeadsAreExactBetweenTexts) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  for (const tsr_repair mode : {TSR_REPAIR_HEAD, TSR_REPAIR_HEAD_SELECT}) {
    tsr::Session session(context, Dial{mode, 37}.options()),
        whole(context, repair(TSR_REPAIR_FULL));
    for (tsr::Session* s : {&session, &whole}) {
      s->add_text("a");
      for (const tsr::Chunk& chunk : made) {
        s->add_chunk(chunk);
        s->add_text("and");
      }
    }
    EXPECT_LT(largest_difference(session.evaluate(), whole.evaluate()), 1e-4f);
    EXPECT_EQ(session.report().tokens_approximate, 0u);
  }
}

// Every row that was promised comes, those of passes before the choice included: as if computed
// without one.
TEST_P(RepairTurns, AllLogits) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  const tsr::Chunk brief(context, digits(4, 4));
  uint64_t before = 0, behind = 0;  // rows in front of the question, and its own
  const auto rows = [&](const Dial& dial) {
    tsr::Session session(context, dial.options());
    add(session, made);
    session.evaluate();  // attaches the chunks
    const uint64_t begin = session.info().tokens;
    session.add_text("between");
    session.add_chunk(brief);
    before = session.info().tokens - begin;
    session.add_text("and which?");
    behind = session.info().tokens - begin - before;
    std::vector<float> all = session.evaluate(TSR_LOGITS_ALL);
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    expect_report(session, session.info().tokens);
    return all;
  };
  const size_t vocabulary = model().info().vocabulary;
  const std::vector<float> head = rows({TSR_REPAIR_HEAD}), both = rows({});
  ASSERT_EQ(head.size(), (before + behind) * vocabulary);
  ASSERT_EQ(both.size(), head.size());
  const auto end = both.begin() + static_cast<ptrdiff_t>(before * vocabulary);
  EXPECT_TRUE(std::equal(both.begin(), end, head.begin())) << "rows in front of the choice";
  EXPECT_FALSE(std::equal(end, both.end(), head.end() - (both.end() - end)));
  // In one slice or many.
  const tsr::Context slices = exact(3);
  const std::vector<tsr::Chunk> again = chunks(slices);
  tsr::Session session(slices, Dial{}.options());
  add(session, again);
  session.evaluate();
  session.add_text("between");
  session.add_chunk(tsr::Chunk(slices, digits(4, 4)));
  session.add_text("and which?");
  EXPECT_EQ(session.evaluate(TSR_LOGITS_ALL), both);
}

// Selected tokens are no second copy of text: neither for penalties nor for drafts.
TEST_P(RepairTurns, DraftsAndPenaltiesSeeATokenOnce) {
  const tsr::Context context = exact();
  const tsr::Chunk chunk(context, "0101010101010101010101");
  std::vector<tsr_logit_bias> biases;
  for (const char* digit : {"0", "1"}) biases.push_back({model().tokenize(digit)[0], 900});
  tsr::GenerateOptions plain = greedy(30);
  plain.frequency_penalty = 1.5f;
  plain.repetition_penalty = 1.1f;
  plain.penalty_window = 1000;
  plain.set_biases(biases);
  const Dial dials[] = {{TSR_REPAIR_SELECT, 0, 0.5f}, {TSR_REPAIR_HEAD_SELECT, 5, 1}};
  for (const Dial& dial : dials) {
    std::vector<int32_t> answers[2];
    for (const uint32_t lookup : {0u, 8u}) {
      tsr::Session session(context, dial.options());
      session.add_text("x");
      session.add_chunk(chunk);
      session.add_text("0101");
      tsr::GenerateOptions options = plain;
      options.lookup_tokens = lookup;
      const uint64_t prompt = session.info().tokens;
      answers[lookup > 0] = generate(session, options);
      expect_report(session, prompt);
      EXPECT_EQ(session.report().tokens_drafted > 0, lookup > 0);
      EXPECT_FALSE(selected(context, session).empty());
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    }
    EXPECT_EQ(answers[1], answers[0]);
  }
  // Everything repaired answers as an ordinary prompt does, penalties included.
  tsr::Session session(context, dials[1].options()), whole(context, repair(TSR_REPAIR_FULL));
  for (tsr::Session* s : {&session, &whole}) {
    s->add_text("x");
    s->add_chunk(chunk);
    s->add_text("0101");
  }
  EXPECT_EQ(generate(session, plain), generate(whole, plain));
}

// One event of room: the session pauses behind each, never in the choice.
TEST_P(RepairTurns, ASlowReader) {
  const tsr::Context context = exact(4);
  const std::vector<tsr::Chunk> made = chunks(context);
  std::vector<int32_t> wanted;
  for (const uint32_t room : {64u, 1u}) {
    tsr::SessionOptions options = Dial{}.options();
    options.event_capacity = room;
    tsr::Session session(context, options);
    add(session, made);
    session.add_text("and which of them?");
    const uint64_t prompt = session.info().tokens;
    session.generate(greedy(6));
    while (room == 1 && context.metrics().generated_tokens < 7) {  // six of the other one
    }
    const Answer answer = read(session);
    EXPECT_EQ(answer.finish, TSR_FINISH_LENGTH);
    expect_report(session, prompt);
    if (wanted.empty()) wanted = session.tokens();
    EXPECT_EQ(session.tokens(), wanted);
  }
}

// A chunk that comes in a later turn, or several.
TEST_P(RepairTurns, ChunksOfLaterTurns) {
  const tsr::Context context = exact();
  const std::vector<tsr::Chunk> made = chunks(context);
  for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
    const Dial dial{TSR_REPAIR_HEAD_SELECT, 5, 0.2f, flags};
    tsr::Session session(context, dial.options());
    session.add_text("x");
    session.add_chunk(made[1]);
    session.add_text("one?");
    generate(session, greedy(5));
    const auto first = selected(context, session);
    const uint64_t before = session.info().computed;
    session.add_chunk(made[2]);
    session.add_chunk(made[1]);
    session.add_text("two?");
    const uint64_t prompt = session.info().tokens;
    generate(session, greedy(5));
    expect_report(session, prompt);
    const auto second = selected(context, session);
    if (flags == 0) {
      ASSERT_EQ(second.size(), 2u);
      EXPECT_EQ(second[0], first[0]) << "kept";
      EXPECT_GE(second[1].front(), static_cast<int32_t>(before));
      EXPECT_EQ(session.report().tokens_repaired, 10 + (13 + 37) / 5u);
    } else {
      ASSERT_EQ(second.size(), 1u);
      EXPECT_EQ(second[0].size(), (37 + 13 + 37) / 5u);
      EXPECT_EQ(session.report().tokens_repaired, 10 + (37 + 13 + 37) / 5u);
    }
    session.add_text("three?");
    generate(session, greedy(5));
    EXPECT_EQ(session.report().tokens_repaired, flags ? (37 + 13 + 37) / 5u : 0u);
    expect_idle(context);
  }
  expect_only_caches(context);
}

}  // namespace
}  // namespace tessera::test
