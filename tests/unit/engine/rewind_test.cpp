// Rewinding: to every position, over all that a session is made of.
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

const std::string kAnchor = "<|im_start|>the anchor";

class Rewind : public EngineTest {
 protected:
  tsr::Context anchored(uint64_t pages = 1024) {
    tsr::ContextOptions options = small(pages);
    options.kv_type = TSR_KV_F32;
    options.set_anchor(kAnchor);
    return context(options);
  }
};
TESSERA_ON_EACH_DEVICE(Rewind);

tsr::SessionOptions dial(tsr_repair mode, uint64_t flags = 0) {
  tsr::SessionOptions options = repair(mode);
  options.head_tokens = 5;
  options.select_share = 0.3f;
  options.flags = flags;
  return options;
}

void add_context(const tsr::Context& context, tsr::Session& session) {
  session.add_anchor();
  session.add_chunk(tsr::Chunk(context, digits(20, 1)));
  session.add_text(digits(11, 2));
  session.add_chunk(tsr::Chunk(context, digits(13, 3)));
}

constexpr tsr_repair kUnselected[] = {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_FULL};

// A session that has all its KV against one that has none when it is taken back.
TEST_P(Rewind, ToEveryPosition) {
  for (const tsr_repair mode : kUnselected) {
    const tsr::Context context = anchored();
    tsr::Session whole(context, dial(mode));
    add_context(context, whole);
    whole.add_text("a question");
    generate(whole, greedy(6));
    const std::vector<int32_t> all = whole.tokens();
    for (size_t n = 0; n < all.size(); ++n) {
      SCOPED_TRACE("repair " + std::to_string(mode) + ", position " + std::to_string(n));
      tsr::Session session = whole.fork();
      session.rewind(n);
      EXPECT_EQ(session.info().tokens, n);
      EXPECT_EQ(session.info().computed, n) << "what stays is ready";
      EXPECT_EQ(session.tokens(),
                (std::vector<int32_t>{all.begin(), all.begin() + static_cast<ptrdiff_t>(n)}));
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      session.add_text("and now?");
      const std::vector<float> logits = session.evaluate();
      EXPECT_EQ(session.report().tokens_computed, session.info().tokens - n);
      const tsr::Context other = anchored();
      tsr::Session fresh(other, dial(mode));
      add_context(other, fresh);
      fresh.add_text("a question");
      std::vector<int32_t> answer(all.end() - 6, all.end());
      fresh.add_tokens(answer);
      fresh.rewind(n);
      EXPECT_EQ(fresh.info().computed, 0u);
      fresh.add_text("and now?");
      EXPECT_EQ(fresh.evaluate(), logits);
    }
    EXPECT_EQ(whole.tokens(), all);
    whole.reset();
    expect_only_caches(context);
  }
}

// Against prompts that were never longer.
TEST_P(Rewind, IsASessionThatWasBuiltUpToThere) {
  for (const tsr_repair mode : kUnselected) {
    SCOPED_TRACE(mode);
    const tsr::Context context = anchored(), other = anchored();
    for (int parts = 0; parts < 5; ++parts) {
      const auto build = [&](const tsr::Context& in, tsr::Session& session, int until) {
        if (until > 0) session.add_anchor();
        if (until > 1) session.add_chunk(tsr::Chunk(in, digits(20, 1)));
        if (until > 2) session.add_text(digits(11, 2));
        if (until > 3) session.add_chunk(tsr::Chunk(in, digits(13, 3)));
      };
      tsr::Session session(context, dial(mode)), fresh(other, dial(mode));
      build(context, session, parts);
      const uint64_t there = session.info().tokens;
      if (there > 0) generate(session, greedy(3));  // right behind a chunk, too
      tsr::Session longer(context, dial(mode));
      build(context, longer, 4);
      longer.add_text("x");
      longer.evaluate();
      session.rewind(there);
      longer.rewind(there);
      build(other, fresh, parts);
      for (tsr::Session* s : {&session, &longer, &fresh}) s->add_text("the same");
      const std::vector<float> logits = fresh.evaluate();
      EXPECT_EQ(session.evaluate(), logits) << parts;
      EXPECT_EQ(longer.evaluate(), logits) << parts;
      EXPECT_EQ(generate(session, greedy(9)), generate(fresh, greedy(9)));
    }
    expect_idle(context);
  }
}

// Computed in place, a cut chunk is a cut prompt.
TEST_P(Rewind, WithinARecomputedChunkIsFullPrefill) {
  const tsr::Context context = anchored();
  tsr::Session whole(context, dial(TSR_REPAIR_FULL));
  add_context(context, whole);
  whole.evaluate();
  const std::vector<int32_t> all = whole.tokens();
  for (size_t n = 1; n < all.size(); ++n) {
    tsr::Session session = whole.fork(), plain(context);
    session.rewind(n);
    session.add_text("?");
    plain.add_tokens({all.begin(), all.begin() + static_cast<ptrdiff_t>(n)});
    plain.add_text("?");
    EXPECT_LT(largest_difference(session.evaluate(), plain.evaluate()), 1e-4f) << n;
  }
}

TEST_P(Rewind, BeforeTheQuestionDropsWhatItSelected) {
  for (const tsr_repair mode : {TSR_REPAIR_SELECT, TSR_REPAIR_HEAD_SELECT}) {
    for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
      const tsr::Context context = anchored(), other = anchored();
      tsr::Session session(context, dial(mode, flags)), fresh(other, dial(mode, flags));
      add_context(context, session);
      add_context(other, fresh);
      const uint64_t start = session.info().tokens;
      session.add_text("the first question");
      generate(session, greedy(5));
      EXPECT_GT(session.report().tokens_repaired, 0u);
      session.rewind(start);
      EXPECT_EQ(session.info().computed, start);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      for (tsr::Session* s : {&session, &fresh}) s->add_text("quite another one");
      EXPECT_EQ(generate(session, greedy(7)), generate(fresh, greedy(7)));
      EXPECT_EQ(session.evaluate(), fresh.evaluate());
      expect_report(session, session.info().tokens);
      session.reset();
      expect_only_caches(context);
    }
  }
}

TEST_P(Rewind, BehindTheQuestionKeepsWhatItSelected) {
  const tsr::Context context = anchored(), other = anchored();
  const tsr::SessionOptions options = dial(TSR_REPAIR_HEAD_SELECT);
  tsr::Session session(context, options), straight(other, options);
  for (tsr::Session* s : {&session, &straight}) {
    add_context(s == &session ? context : other, *s);
    s->add_text("the first question");
    generate(*s, greedy(5));
  }
  const uint64_t there = session.info().tokens;
  // Another question, and another chunk that is selected from; neither is kept.
  session.add_text("a false start");
  session.add_chunk(tsr::Chunk(context, digits(30, 7)));
  session.add_text("of some length");
  generate(session, greedy(9));
  EXPECT_GT(session.report().tokens_repaired, 0u);
  session.rewind(there);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  for (tsr::Session* s : {&session, &straight}) s->add_text("the second question");
  EXPECT_EQ(session.evaluate(), straight.evaluate());
  EXPECT_EQ(session.report().tokens_repaired, 0u);
  EXPECT_EQ(generate(session, greedy(9)), generate(straight, greedy(9)));
}

// Within a question all positions keep the selection but the first; nothing breaks.
TEST_P(Rewind, ToEveryPositionOfASelection) {
  for (const uint64_t flags : {uint64_t{0}, TSR_SESSION_RESELECT}) {
    const tsr::Context context = anchored();
    tsr::Session whole(context, dial(TSR_REPAIR_HEAD_SELECT, flags));
    add_context(context, whole);
    whole.add_text("a question");
    generate(whole, greedy(6));
    whole.add_chunk(tsr::Chunk(context, digits(21, 8)));
    whole.add_text("another question");
    generate(whole, greedy(6));
    whole.add_text("a third");
    generate(whole, greedy(6));
    const uint64_t all = whole.info().tokens;
    for (uint64_t n = 0; n < all; ++n) {
      SCOPED_TRACE(n);
      tsr::Session session = whole.fork();
      session.rewind(n);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      session.add_text("and?");
      generate(session, greedy(3));
      expect_report(session, session.info().tokens - 3);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      session.rewind(n / 2);
      if (n > 1) session.evaluate();
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    }
    whole.reset();
    expect_only_caches(context);
    // What selections left behind serves nobody who selects otherwise.
    const tsr::Context other = anchored();
    std::vector<float> logits[2];
    for (int i = 0; i < 2; ++i) {
      const tsr::Context& in = i ? other : context;
      tsr::Session session(in, dial(TSR_REPAIR_HEAD));
      add_context(in, session);
      session.add_text("a question");
      logits[i] = session.evaluate();
    }
    EXPECT_EQ(logits[0], logits[1]);
  }
}

// A page that a prefix run or another session has is not written, wherever it is cut.
TEST_P(Rewind, WritesNoPageThatOthersSee) {
  const tsr::Context context = this->context(), other = this->context();
  const std::string text = digits(24, 1);
  tsr::Session witness(context), plain(other);
  witness.add_text(text + "?");
  const std::vector<float> seen = witness.evaluate();
  const std::vector<uint8_t> before = witness.save();
  for (uint64_t n = 1; n < 24; ++n) {
    tsr::Session session(context), fresh(other);
    session.add_text(text);
    session.evaluate();
    session.rewind(n);
    fresh.add_text(text.substr(0, n));
    for (tsr::Session* s : {&session, &fresh}) s->add_text("no, " + digits(9, n));
    EXPECT_EQ(session.evaluate(), fresh.evaluate()) << n;
    EXPECT_EQ(witness.save(), before) << n;
    expect_idle(context);
  }
  // And the run is found again.
  tsr::Session again(context);
  again.add_text(text + "?");
  EXPECT_EQ(again.evaluate(), seen);
  EXPECT_EQ(again.report().tokens_exact, 24u);
  EXPECT_EQ(witness.evaluate(), seen);
}

// A cut page that is closed as it is: it is in one prefix run only, so it can be given up.
TEST_P(Rewind, ACutPageIsInOneRun) {
  constexpr uint64_t kPages = 128;
  const tsr::Context context = this->context(small(kPages));
  for (uint64_t n = 9; n < 24; ++n) {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    const tsr::Chunk chunk(context, digits(10, 3));
    session.add_text(digits(28, 1));
    session.add_chunk(chunk);
    session.add_text("x");
    session.evaluate();
    session.rewind(n);
    session.add_chunk(chunk);
    session.add_text("y");
    session.evaluate();
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  }
  expect_only_caches(context);
  tsr::Session all(context);
  all.add_text(digits(16, 7));
  all.generate(greedy(kPages * 8 - 16));
  all.cancel();
  EXPECT_EQ(read(all).finish, TSR_FINISH_CANCELLED);
  all.reset();
  expect_only_caches(context);
}

// What a stop string left is taken back like any token.
TEST_P(Rewind, OverAStopString) {
  const tsr::Context context = this->context();
  tsr::Session session(context), plain(context);
  for (tsr::Session* s : {&session, &plain}) s->add_text("once upon a time");
  const uint64_t prompt = session.info().tokens;
  session.generate(greedy(24));
  const std::string whole = read(session).text;
  session.rewind(prompt);
  size_t cut = whole.size() / 2;
  while (cut > 0 && (whole[cut] & 0xc0) == 0x80) --cut;
  size_t end = cut + 1;
  while (end < whole.size() && (whole[end] & 0xc0) == 0x80) ++end;
  session.generate(greedy(24), {std::string_view(whole).substr(cut, end - cut)});
  read(session);
  session.rewind(session.info().tokens);
  const std::vector<int32_t> stopped = session.tokens();
  session.rewind(stopped.size() - 1);
  session.add_tokens({stopped.back()});
  plain.add_tokens({stopped.begin() + static_cast<ptrdiff_t>(prompt), stopped.end()});
  EXPECT_EQ(session.evaluate(), plain.evaluate());
}

TEST_P(Rewind, Refusals) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.rewind(0);
  std::string message;
  EXPECT_EQ(status_of([&] { session.rewind(1); }, &message), TSR_INVALID_ARGUMENT);
  EXPECT_NE(message.find("tokens is 1"), std::string::npos) << message;
  session.add_text("busy");
  session.generate(greedy(4));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(status_of([&] { session.rewind(0); }), TSR_BUSY);
    wait_until_idle(context);
  }
  EXPECT_EQ(read(session).tokens, 4u);
  session.rewind(0);
  EXPECT_EQ(status_of([&] { session.evaluate(); }), TSR_INVALID_ARGUMENT);
  expect_idle(context);
}

}  // namespace
}  // namespace tessera::test
