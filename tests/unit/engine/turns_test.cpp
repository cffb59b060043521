// Several turns of one session, and generating or evaluating where nothing new was added.
#include <thread>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class Turns : public EngineTest {};
TESSERA_ON_EACH_DEVICE(Turns);

TEST_P(Turns, ASecondTurnComputesNothingAgain) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text(digits(50, 1));
  generate(session, greedy(10));
  expect_report(session, 50);
  EXPECT_EQ(session.report().tokens_computed, 50u);
  EXPECT_EQ(session.info().computed, 59u) << "all but the last token, which nobody needed yet";
  session.add_text(digits(7, 2));
  const uint64_t before = context.metrics().computed_tokens;
  generate(session, greedy(10));
  expect_report(session, 67);
  EXPECT_EQ(session.report().tokens_computed, 8u) << "the last token of the answer, and 7 new";
  EXPECT_EQ(session.report().tokens_exact, 59u);
  EXPECT_EQ(context.metrics().computed_tokens - before, 8u + 9u);
}

TEST_P(Turns, TurnsGiveWhatOnePromptGives) {
  const tsr::Context context = this->context();
  tsr::Session turns(context);
  for (uint64_t turn = 0; turn < 5; ++turn) {
    turns.add_text(digits(3 + 6 * turn, turn));
    generate(turns, greedy(4 + static_cast<uint32_t>(turn)));
  }
  const std::vector<int32_t> all = turns.tokens();
  const std::vector<float> logits = turns.evaluate();
  tsr::Session at_once(this->context());
  at_once.add_tokens(all);
  EXPECT_EQ(at_once.evaluate(), logits);
  EXPECT_EQ(at_once.tokens(), all);
}

TEST_P(Turns, TokensGoInAndOut) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  EXPECT_TRUE(session.tokens().empty());
  std::vector<int32_t> wanted = model().tokenize("some text");
  session.add_text("some text");
  EXPECT_EQ(session.tokens(), wanted);
  session.add_text("");
  session.add_tokens({});
  session.add_tokens({5, 6, 319});
  wanted.insert(wanted.end(), {5, 6, 319});
  EXPECT_EQ(session.tokens(), wanted);
  const tsr::Chunk chunk(context, "of a chunk");
  for (const int32_t token : model().tokenize("of a chunk")) wanted.push_back(token);
  session.add_chunk(chunk);
  EXPECT_EQ(session.tokens(), wanted);
  for (const int32_t token : generate(session, greedy(9))) wanted.push_back(token);
  EXPECT_EQ(session.tokens(), wanted);
  EXPECT_EQ(session.info().tokens, wanted.size());
  EXPECT_EQ(status_of([&] { session.add_tokens({1, 320}); }), TSR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { session.add_tokens({-1}); }), TSR_INVALID_ARGUMENT);
  EXPECT_EQ(session.tokens(), wanted) << "a refused addition added something";
}

// Where all is computed the last token is computed once more: for every place of the page boundary.
TEST_P(Turns, GenerateRightAfterEvaluate) {
  const tsr::Context context = this->context();
  for (uint64_t length = 1; length <= 25; ++length) {
    tsr::Session plain(context), session(context);
    plain.add_text(digits(length, 100));
    const std::vector<int32_t> wanted = generate(plain, greedy(11));
    session.add_text(digits(length, 100));
    const std::vector<float> logits = session.evaluate();
    EXPECT_EQ(session.evaluate(), logits) << length;
    EXPECT_EQ(session.evaluate(TSR_LOGITS_ALL), logits) << length;
    EXPECT_EQ(session.info().computed, length);
    EXPECT_EQ(generate(session, greedy(11)), wanted) << length;
    expect_report(session, length);
    EXPECT_EQ(session.info().tokens, length + 11);
    expect_idle(context);
  }
}

// ... in a copy of the page where it may be another session's too; full, the two are one again.
TEST_P(Turns, ASharedPageIsNotWrittenAgain) {
  const tsr::Context context = this->context();
  tsr::Session first(context), second(context);
  for (tsr::Session* session : {&first, &second}) {
    session->add_text(digits(16, 1));
    session->evaluate();
  }
  const std::vector<uint8_t> before = first.save();
  generate(second, greedy(4));
  EXPECT_EQ(first.save(), before);
  EXPECT_EQ(context.metrics().pages_used, 3u) << "two, and the answer's";
  engine::ContextProbe probe(context.get());
  const auto other = probe.segments(first.get()), segments = probe.segments(second.get());
  ASSERT_EQ(other.size(), 1u);
  ASSERT_EQ(segments.size(), 1u);
  ASSERT_EQ(segments[0].span.blocks.size(), 3u);
  for (size_t b = 0; b < 2; ++b) {
    EXPECT_EQ(segments[0].span.blocks[b], other[0].span.blocks[b]) << b;
  }
  first.add_text("?");
  tsr::Session plain(this->context());
  plain.add_text(digits(16, 1) + "?");
  EXPECT_EQ(first.evaluate(), plain.evaluate());
}

TEST_P(Turns, GenerateTwiceWithoutAdditions) {
  const tsr::Context context = this->context();
  for (uint64_t length = 6; length <= 18; ++length) {
    tsr::Session at_once(context), session(context);
    at_once.add_text(digits(length, 7));
    const std::vector<int32_t> wanted = generate(at_once, greedy(12));
    session.add_text(digits(length, 7));
    std::vector<int32_t> answer;
    for (const uint32_t part : {1u, 4u, 2u, 5u}) {
      for (const int32_t token : generate(session, greedy(part))) answer.push_back(token);
    }
    EXPECT_EQ(answer, wanted) << length;
  }
  expect_only_caches(context);
}

// A first token that is an end token leaves a session whose tokens all have KV.
TEST_P(Turns, AnEndAtOnceAndThenMore) {
  const tsr::Context context = this->context();
  const auto is_end = [](int32_t token) { return token == 0 || token == 2; };
  int found = 0;
  for (uint64_t seed = 0; seed < 3000 && found < 2; ++seed) {
    tsr::Session session(context), plain(context);
    session.add_text(digits(8 + seed % 3, seed % 40));
    plain.add_text(digits(8 + seed % 3, seed % 40));
    tsr::GenerateOptions options = drawn(1, seed);
    options.temperature = 3;
    if (!is_end(generate(plain, options)[0])) continue;
    ++found;
    options.flags = 0;
    session.generate(options);
    const Answer answer = read(session);
    EXPECT_EQ(answer.finish, TSR_FINISH_END);
    EXPECT_EQ(answer.tokens, 0u);
    EXPECT_EQ(session.info().computed, session.info().tokens);
    tsr::Session fresh(context);
    fresh.add_tokens(session.tokens());
    EXPECT_EQ(generate(session, greedy(9)), generate(fresh, greedy(9)));
  }
  EXPECT_EQ(found, 2) << "no seed begins with an end token: choose others";
}

TEST_P(Turns, WhatDoesNotFitTheSessionIsNotAdded) {
  tsr::ContextOptions options = small();
  options.max_session_tokens = 20;
  const tsr::Context context = this->context(options);
  tsr::Session session(context);
  session.add_text(digits(15, 1));
  std::string message;
  EXPECT_EQ(status_of([&] { session.add_text(digits(6, 1)); }, &message), TSR_CAPACITY);
  for (const char* number : {"6 tokens", "5 of its 20"}) {
    EXPECT_NE(message.find(number), std::string::npos) << message;
  }
  EXPECT_EQ(session.info().tokens, 15u);
  EXPECT_EQ(status_of([&] { session.generate(greedy(6)); }, &message), TSR_CAPACITY);
  EXPECT_EQ(generate(session, greedy(5)).size(), 5u);
  EXPECT_EQ(session.info().max_tokens, 20u);
}

TEST_P(Turns, BusyWhileAnAnswerIsUnderWayOrUnread) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text("busy");
  session.generate(greedy(4));
  const auto busy = [&](auto call) { EXPECT_EQ(status_of(call), TSR_BUSY); };
  for (int i = 0; i < 2; ++i) {
    busy([&] { session.add_text("more"); });
    busy([&] { session.add_tokens({3}); });
    busy([&] { session.generate(greedy(1)); });
    busy([&] { session.evaluate(); });
    EXPECT_EQ(session.info().generating, 1);
    wait_until_idle(context);  // the second time: done, but not read
  }
  EXPECT_EQ(read(session).tokens, 4u);
  session.add_text("more");
  EXPECT_EQ(status_of([&] { tsr::Session(context).generate(); }), TSR_INVALID_ARGUMENT);
  EXPECT_EQ(status_of([&] { tsr::Session(context).evaluate(); }), TSR_INVALID_ARGUMENT);
}

// However the answer before ended: its last token, whose KV nobody needed yet, is not among them.
TEST_P(Turns, AllLogitsAreOfWhatCameAfterTheAnswer) {
  const tsr::Context context = this->context();
  const size_t width = model().info().vocabulary;
  tsr::Session first(context);
  first.add_text("once upon a time");
  first.generate(greedy(24));
  const std::string whole = read(first).text;
  size_t cut = whole.size() / 2;  // a whole character in the middle
  while (cut > 0 && (whole[cut] & 0xc0) == 0x80) --cut;
  size_t end = cut + 1;
  while (end < whole.size() && (whole[end] & 0xc0) == 0x80) ++end;
  const std::string stop = whole.substr(cut, end - cut);

  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  for (const tsr_finish finish : {TSR_FINISH_LENGTH, TSR_FINISH_STOP, TSR_FINISH_CANCELLED}) {
    SCOPED_TRACE(finish);
    tsr::Session session(context, narrow);
    session.add_text("once upon a time");
    if (finish == TSR_FINISH_STOP) {
      session.generate(greedy(24), {stop});
    } else {
      session.generate(greedy(finish == TSR_FINISH_LENGTH ? 24 : 500));
    }
    while (finish == TSR_FINISH_CANCELLED && session.next()->kind != TSR_EVENT_TEXT) {
    }
    if (finish == TSR_FINISH_CANCELLED) session.cancel();
    EXPECT_EQ(read(session).finish, finish);
    EXPECT_EQ(session.evaluate(TSR_LOGITS_ALL).size(), width) << "nothing was added";
    const size_t answered = session.info().tokens;
    session.generate(greedy(3));
    read(session);
    session.add_text(digits(20, 2));
    const std::vector<float> rows = session.evaluate(TSR_LOGITS_ALL);
    ASSERT_EQ(rows.size(), 20 * width);
    const std::vector<int32_t> all = session.tokens();
    ASSERT_EQ(all.size(), answered + 3 + 20);
    for (const size_t row : {size_t{0}, size_t{7}, size_t{19}}) {
      tsr::Session plain(context);
      plain.add_tokens({all.begin(), all.end() - 19 + static_cast<ptrdiff_t>(row)});
      const auto at = rows.begin() + static_cast<ptrdiff_t>(row * width);
      EXPECT_LT(largest_difference(plain.evaluate(), {at, at + static_cast<ptrdiff_t>(width)}),
                1e-4f)
          << row;
    }
  }
  expect_idle(context);
}

// What an evaluation that was cancelled left is still to be had.
TEST_P(Turns, AllLogitsAfterACancelledEvaluation) {
  tsr::ContextOptions options = small(1024);
  options.max_step_tokens = 1;
  const tsr::Context context = this->context(options);
  tsr::Session session(context);
  session.add_text(digits(1000, 1));
  std::thread evaluating(
      [&] { EXPECT_EQ(status_of([&] { session.evaluate(TSR_LOGITS_ALL); }), TSR_CANCELLED); });
  while (context.metrics().computed_tokens < 4) std::this_thread::yield();
  session.cancel();
  evaluating.join();
  const size_t left = 1000 - session.info().computed;
  EXPECT_GT(left, 0u);
  EXPECT_EQ(session.evaluate(TSR_LOGITS_ALL).size(), left * model().info().vocabulary);
}

// The anchor is shared, so it has no rows; recomputed chunks have.
TEST_P(Turns, AllLogitsBehindAnAnchor) {
  tsr::ContextOptions options = small();
  options.set_anchor("<|im_start|>anchor");
  const tsr::Context context = this->context(options);
  const size_t width = model().info().vocabulary;
  const tsr::Chunk chunk(context, digits(9, 1));
  tsr::SessionOptions full;
  full.repair = TSR_REPAIR_FULL;
  for (int round = 0; round < 2; ++round) {  // the anchor absent, then ready
    tsr::Session session(context, full), last(context, full);
    for (tsr::Session* each : {&session, &last}) {
      each->add_anchor();
      each->add_chunk(chunk);
      each->add_text("123");
    }
    const std::vector<float> rows = session.evaluate(TSR_LOGITS_ALL);
    ASSERT_EQ(rows.size(), 12 * width);
    EXPECT_LT(largest_difference({rows.end() - static_cast<ptrdiff_t>(width), rows.end()},
                                 last.evaluate()),
              1e-4f);
    tsr::Session alone(context);
    alone.add_anchor();
    EXPECT_EQ(alone.evaluate(TSR_LOGITS_ALL).size(), width);
  }
  tsr::Session shares(context);
  shares.add_anchor();
  shares.add_chunk(chunk);
  EXPECT_EQ(status_of([&] { shares.evaluate(TSR_LOGITS_ALL); }), TSR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace tessera::test
