// Answers with drafts are those without, and so is everything that they leave behind.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

using Stops = std::vector<std::string_view>;

class Lookup : public EngineTest {
 protected:
  static tsr::ContextOptions options() {
    tsr::ContextOptions options = small();
    options.anchor = "the anchor 123123";
    options.anchor_length = TSR_NUL_TERMINATED;
    return options;
  }

  // Digits only, so that much of an answer was there before.
  std::vector<tsr_logit_bias> few_digits(int count) {
    std::vector<tsr_logit_bias> biases;
    for (char c = '0'; c < '0' + count; ++c) {
      biases.push_back({model().tokenize(std::string(1, c))[0], 900});
    }
    return biases;
  }

  // Anchor, chunks, text.
  static void fill(const tsr::Context& context, tsr::Session& session, uint64_t seed) {
    session.add_anchor();
    session.add_text(digits(1 + seed % 9, seed));
    session.add_chunk(tsr::Chunk(context, digits(20, seed + 1)));
    session.add_chunk(tsr::Chunk(context, digits(11, seed + 2)));
    if (seed % 3) session.add_text(digits(seed % 7, seed) + "?");
  }

  struct Result {
    Answer answer;
    std::vector<int32_t> tokens;
    tsr::Report report;
  };
  Result ask(const tsr::Context& context, uint64_t seed, const tsr::GenerateOptions& options,
             const Stops& stops = {}) {
    tsr::Session session(context);
    fill(context, session, seed);
    session.add_tokens(last_);
    session.generate(options, stops);
    Result result;
    result.answer = read(session);
    result.tokens = session.tokens();
    result.report = session.report();
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    return result;
  }

  static void expect_same(const Result& got, const Result& want) {
    EXPECT_EQ(got.answer.status, TSR_OK) << got.answer.message;
    EXPECT_EQ(got.answer.text, want.answer.text);
    EXPECT_EQ(got.answer.finish, want.answer.finish);
    EXPECT_EQ(got.answer.tokens, want.answer.tokens);
    EXPECT_EQ(got.tokens, want.tokens);
    ASSERT_EQ(got.answer.told.size(), want.answer.told.size());
    for (size_t i = 0; i < got.answer.told.size(); ++i) {
      const Told& a = got.answer.told[i];
      const Told& b = want.answer.told[i];
      EXPECT_TRUE(a.token == b.token && a.logprob == b.logprob && a.tokens == b.tokens &&
                  a.text_bytes == b.text_bytes)
          << i;
    }
  }

  // The same with and without drafts; adds up what was drafted.
  Result compare(uint64_t seed, tsr::GenerateOptions options, const Stops& stops = {}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const tsr::Context context = this->context(Lookup::options());
    const tsr::Context other = this->context(Lookup::options());
    options.lookup_tokens = 0;
    const Result want = ask(context, seed, options, stops);
    EXPECT_EQ(want.report.tokens_drafted, 0u);
    EXPECT_EQ(context.metrics().drafted_tokens, 0u);
    options.lookup_tokens = static_cast<uint32_t>(1 + seed % 12);
    const Result got = ask(other, seed, options, stops);
    expect_same(got, want);
    expect_only_caches(other);
    EXPECT_LE(got.report.tokens_accepted, got.report.tokens_drafted);
    EXPECT_LE(got.report.tokens_accepted, got.report.tokens_generated);
    drafted_ += got.report.tokens_drafted;
    accepted_ += got.report.tokens_accepted;
    return got;
  }
  void expect_work() const {
    EXPECT_GT(accepted_, 30u) << "too few drafts were right for the test to show anything";
    EXPECT_GT(drafted_, accepted_ + 30) << "too few drafts were wrong";
    std::cout << accepted_ << " of " << drafted_ << " drafted tokens accepted\n";
  }

  std::vector<int32_t> last_;  // of the prompts
  uint64_t drafted_ = 0, accepted_ = 0;
};
TESSERA_ON_EACH_DEVICE(Lookup);

TEST_P(Lookup, GreedyAnswersAreTheSame) {
  for (uint64_t seed = 0; seed < 24; ++seed) compare(seed, greedy(60));
  expect_work();
}

TEST_P(Lookup, DrawnAnswersAreTheSame) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    tsr::GenerateOptions options = drawn(60, seed);
    const std::vector<tsr_logit_bias> biases = few_digits(2 + static_cast<int>(seed % 4));
    options.set_biases(biases);
    if (seed % 3 == 0) options.top_k = 3;
    if (seed % 3 == 1) options.top_p = 0.9f;
    options.logprobs = seed % 2 ? 2 : 0;
    compare(seed, options);
  }
  expect_work();
}

// Row i of a draft is adjusted as if the draft before it was part of the answer.
TEST_P(Lookup, PenaltiesSeeTheDraft) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    tsr::GenerateOptions options = seed % 2 ? drawn(60, seed) : greedy(60);
    const std::vector<tsr_logit_bias> biases = few_digits(3);
    options.set_biases(biases);
    options.frequency_penalty = 0.05f * static_cast<float>(seed % 5);
    options.presence_penalty = 0.3f;
    options.repetition_penalty = 1.001f;
    options.penalty_window = static_cast<uint32_t>(1 + seed % 9);
    options.logprobs = 1;
    compare(seed, options);
  }
  expect_work();
}

// Limits, stop strings and end tokens fall anywhere in a draft.
TEST_P(Lookup, EndsCutDraftsAsAnswers) {
  const std::vector<tsr_logit_bias> biases = few_digits(2);
  for (uint32_t count = 1; count < 30; ++count) {
    tsr::GenerateOptions options = drawn(count, 5);
    options.set_biases(biases);
    EXPECT_EQ(compare(11, options).answer.finish, TSR_FINISH_LENGTH);
  }
  expect_work();
  int stopped = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    tsr::GenerateOptions options = drawn(60, seed);
    options.set_biases(biases);
    const std::string text = compare(seed, options).answer.text;
    for (const size_t length : {4u, 5u, 7u}) {
      const std::string stop = text.substr(12 + seed, length);
      stopped += compare(seed, options, {stop, "never"}).answer.finish == TSR_FINISH_STOP;
    }
  }
  EXPECT_EQ(stopped, 36);
}

TEST_P(Lookup, EndTokensInTheTextAreNotDrafted) {
  const int32_t end = model().info().eos_token;
  std::vector<tsr_logit_bias> biases = few_digits(2);
  biases.push_back({end, 901});
  const int32_t zero = biases[0].token, one = biases[1].token;
  last_ = {zero, one, end, one, one, end, zero, zero, end, one, zero, end};
  int ended = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const uint64_t flags : {uint64_t{0}, TSR_GENERATE_IGNORE_END}) {
      tsr::GenerateOptions options = drawn(60, seed);
      options.set_biases(biases);
      options.flags = flags;
      ended += compare(seed, options).answer.finish == TSR_FINISH_END;
    }
  }
  EXPECT_GT(ended, 10);
  expect_work();
}

// What rejected rows wrote is never looked at: the session goes on, and others take its prefix
// runs, to the same bits.
TEST_P(Lookup, RejectedRowsLeaveNothing) {
  const tsr::Context plain = this->context(options());
  const tsr::Context drafting = this->context(options());
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::vector<std::vector<float>> rows[2];
    std::vector<int32_t> tokens[2];
    uint64_t wrong = 0;
    for (const bool drafts : {false, true}) {
      const tsr::Context& context = drafts ? drafting : plain;
      tsr::Session session(context);
      fill(context, session, seed);
      for (uint32_t turn = 0; turn < 3; ++turn) {
        tsr::GenerateOptions options = drawn(17 + static_cast<uint32_t>(seed), seed + turn);
        const std::vector<tsr_logit_bias> biases = few_digits(3);
        options.set_biases(biases);
        options.lookup_tokens = drafts ? 6 : 0;
        generate(session, options);
        wrong += session.report().tokens_drafted - session.report().tokens_accepted;
        rows[drafts].push_back(session.evaluate());
        rows[drafts].push_back(session.evaluate());  // computes the last token once more
        session.add_text(digits(seed % 5, turn));
        rows[drafts].push_back(session.evaluate(TSR_LOGITS_ALL));
      }
      expect_idle(context);
      tokens[drafts] = session.tokens();
    }
    EXPECT_EQ(tokens[1], tokens[0]);
    EXPECT_EQ(rows[1], rows[0]);
    EXPECT_GT(wrong, 0u);
    // Text alone shares prefix runs; the first session computes without them.
    const std::string text = digits(30, seed);
    tsr::Session writer(drafting), alone(plain);
    for (tsr::Session* s : {&writer, &alone}) s->add_text(text);
    tsr::GenerateOptions options = drawn(40, seed);
    const std::vector<tsr_logit_bias> biases = few_digits(3);
    options.set_biases(biases);
    options.lookup_tokens = 6;
    generate(writer, options);
    const std::vector<int32_t> all = writer.tokens();
    alone.add_tokens(std::vector<int32_t>(all.begin() + 30, all.end()));
    tsr::Session reader(drafting);
    reader.add_tokens(all);
    writer.reset();
    EXPECT_EQ(reader.evaluate(), alone.evaluate());
    EXPECT_GE(reader.report().tokens_exact, 56u) << "nothing was shared";
  }
}

// Pages at the end of a draft go back, so that an answer takes what it reserved and no more.
TEST_P(Lookup, FitsWhatWasReserved) {
  for (uint32_t count = 1; count < 26; ++count) {
    const uint64_t pages = (10 + count + 7) / 8;
    const tsr::Context context = this->context(small(pages));
    tsr::Session session(context);
    session.add_text("0101010101");
    tsr::GenerateOptions options = drawn(count, count);
    const std::vector<tsr_logit_bias> biases = few_digits(2);
    options.set_biases(biases);
    options.lookup_tokens = 12;
    EXPECT_EQ(generate(session, options).size(), count);
    expect_idle(context);
    const engine::Segment last = engine::ContextProbe(context.get()).segments(session.get()).back();
    EXPECT_EQ(last.span.blocks.size(), (last.span.slots + 7) / 8) << "a page without a token";
  }
}

TEST_P(Lookup, TakesFewerSteps) {
  const tsr::Context context = this->context();
  tsr::SessionOptions roomy;  // however slow the reader is
  roomy.event_capacity = 256;
  const auto steps = [&](uint32_t lookup) {
    tsr::Session session(context, roomy);
    session.add_text("01");
    tsr::GenerateOptions options = greedy(120);
    options.lookup_tokens = lookup;
    const uint64_t before = context.metrics().steps;
    const tsr::Metrics m = context.metrics();
    generate(session, options);
    const tsr::Report r = session.report();
    EXPECT_EQ(context.metrics().drafted_tokens - m.drafted_tokens, r.tokens_drafted);
    EXPECT_EQ(context.metrics().accepted_tokens - m.accepted_tokens, r.tokens_accepted);
    return context.metrics().steps - before;
  };
  EXPECT_GE(steps(0), 120u);
  EXPECT_LT(steps(8), 40u) << "this answer repeats itself";
}

// Without anything to quote there is hardly a draft: 1 + 1 + 2 + 4 + ... tokens for each.
TEST_P(Lookup, PoorDraftsStop) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text(digits(400, 1));
  tsr::GenerateOptions options = drawn(200, 3);
  const std::vector<tsr_logit_bias> biases = few_digits(10);
  options.set_biases(biases);
  options.lookup_tokens = 8;
  options.temperature = 100;  // nearly uniform
  generate(session, options);
  const tsr::Report r = session.report();
  EXPECT_GT(r.tokens_drafted, 5u);
  EXPECT_LT(r.tokens_drafted, 100u);
}

// Sessions that draft beside others, in steps too small for all: everybody gets the answer that
// it gets alone, and none starves.
TEST_P(Lookup, BesideOthers) {
  const auto ask = [&](tsr::Session& session, uint64_t seed, bool drafts) {
    session.add_text(digits(5 + 9 * (seed % 4), seed));
    tsr::GenerateOptions options = drawn(30, seed);
    const std::vector<tsr_logit_bias> biases = few_digits(2 + static_cast<int>(seed % 3));
    options.set_biases(biases);
    options.lookup_tokens = drafts ? 8 : 0;
    session.generate(options);
  };
  std::vector<std::string> alone;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const tsr::Context context = this->context();
    tsr::Session session(context);
    ask(session, seed, false);
    alone.push_back(read(session).text);
  }
  for (const uint32_t rows : {1u, 2u, 5u, 12u, 64u}) {
    tsr::ContextOptions options = small();
    options.max_step_tokens = rows;
    const tsr::Context context = this->context(options);
    std::vector<tsr::Session> sessions;
    for (uint64_t seed = 0; seed < 10; ++seed) sessions.emplace_back(context);
    for (uint64_t seed = 0; seed < 10; ++seed) ask(sessions[seed], seed, seed % 3 != 0);
    for (uint64_t seed = 0; seed < 10; ++seed) {
      EXPECT_EQ(read(sessions[seed]).text, alone[seed]) << rows << " rows, seed " << seed;
    }
    expect_idle(context);
    const uint64_t drafted = context.metrics().drafted_tokens;
    if (rows == 1) {
      EXPECT_EQ(drafted, 0u) << "there was no row to spare";
    } else if (rows == 64) {
      EXPECT_GT(drafted, 20u);
    }
  }
}

// A draft never fills the reader's queue beyond its capacity.
TEST_P(Lookup, QueuesKeepTheirBounds) {
  const tsr::Context context = this->context();
  const std::vector<tsr_logit_bias> biases = few_digits(1);
  for (const uint32_t capacity : {1u, 2u, 3u, 7u, 20u}) {
    for (const uint32_t logprobs : {0u, 1u}) {
      tsr::SessionOptions session_options;
      session_options.event_capacity = capacity;
      tsr::Session session(context, session_options);
      session.add_text("00");
      tsr::GenerateOptions options = greedy(60);
      options.set_biases(biases);
      options.lookup_tokens = 16;
      options.logprobs = logprobs;
      const uint64_t before = context.metrics().generated_tokens;
      session.generate(options);
      uint64_t paused = 0;
      for (int still = 0; still < 20; ++still) {
        const uint64_t now = context.metrics().generated_tokens - before;
        if (now != paused || now == 0) still = 0;
        paused = now;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      // One progress event is there, too. With two events a token the last may be one too many.
      const uint64_t each = 1 + logprobs;
      EXPECT_LE(1 + paused * each, capacity + each) << capacity;
      EXPECT_EQ(read(session).text, std::string(60, '0'));
    }
  }
}

// Whenever it is cancelled, the session holds what was told, and goes on as if never drafted.
TEST_P(Lookup, CancelAnywhere) {
  const tsr::Context context = this->context(options());
  const tsr::Context plain = this->context(options());
  const std::vector<tsr_logit_bias> biases = few_digits(2);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    tsr::Session session(context), other(plain);
    fill(context, session, seed);
    fill(plain, other, seed);
    const size_t prompt = session.info().tokens;
    tsr::GenerateOptions options = drawn(300, seed);
    options.set_biases(biases);
    options.lookup_tokens = 10;
    session.generate(options);
    for (uint64_t i = 0; i < 1 + seed; ++i) session.next(10'000);
    session.cancel();
    const Answer answer = read(session);
    const std::vector<int32_t> tokens = session.tokens();
    ASSERT_EQ(tokens.size(), prompt + answer.tokens);
    expect_idle(context);
    if (answer.tokens == 0) continue;
    options.max_tokens = static_cast<uint32_t>(answer.tokens);
    options.lookup_tokens = 0;
    generate(other, options);
    EXPECT_EQ(other.tokens(), tokens);
    EXPECT_EQ(session.evaluate(), other.evaluate());
    EXPECT_EQ(session.evaluate(), other.evaluate());
  }
}

}  // namespace
}  // namespace tessera::test
