// Penalties, biases and log-probabilities of answers, each against a computation of its own from
// all logits of a session that is evaluated token by token.
#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

// As tsr_generate_options defines it.
std::vector<double> adjusted(const std::vector<float>& logits, const std::vector<int32_t>& session,
                             const tsr_generate_options& o) {
  const size_t window = o.penalty_window ? o.penalty_window : 64;
  const size_t from = session.size() - std::min(window, session.size());
  std::vector<double> result(logits.begin(), logits.end());
  for (size_t t = 0; t < result.size(); ++t) {
    const auto count = std::count(session.begin() + static_cast<ptrdiff_t>(from), session.end(),
                                  static_cast<int32_t>(t));
    if (count == 0) continue;
    if (o.repetition_penalty != 0) {
      const double r = o.repetition_penalty;
      result[t] = result[t] > 0 ? result[t] / r : result[t] * r;
    }
    result[t] -= static_cast<double>(count) * o.frequency_penalty + o.presence_penalty;
  }
  for (uint64_t i = 0; i < o.bias_count; ++i) {
    result[static_cast<size_t>(o.biases[i].token)] += o.biases[i].bias;
  }
  return result;
}

double log_sum_exp(const std::vector<double>& logits) {
  const double largest = *std::ranges::max_element(logits);
  double total = 0;
  for (const double l : logits) total += std::exp(l - largest);
  return largest + std::log(total);
}

class SamplingOptions : public EngineTest {
 protected:
  // An anchor, a chunk, an answer of an earlier turn and text.
  static constexpr const char* kAnchor = "the anchor";
  static tsr::ContextOptions options() {
    tsr::ContextOptions options = small();
    options.anchor = kAnchor;
    options.anchor_length = TSR_NUL_TERMINATED;
    return options;
  }
  static void fill(const tsr::Context& context, tsr::Session& session) {
    session.add_anchor();
    session.add_chunk(tsr::Chunk(context, "11 chunks of 22"));
    session.add_text("a question");
    generate(session, greedy(6));
    session.add_text("another one");
  }

  // Every token of the answer is the likeliest, and its log-probabilities are right, under logits
  // that are computed here.
  void check(const tsr::GenerateOptions& options) {
    const tsr::Context context = this->context(SamplingOptions::options());
    tsr::Session session(context), oracle(context);
    for (tsr::Session* s : {&session, &oracle}) fill(context, *s);
    const size_t prompt = session.info().tokens;
    session.generate(options);
    const Answer answer = read(session);
    ASSERT_EQ(answer.status, TSR_OK) << answer.message;
    std::vector<int32_t> tokens = session.tokens();
    ASSERT_EQ(tokens.size(), prompt + options.max_tokens);
    ASSERT_EQ(answer.told.size(), options.logprobs ? options.max_tokens : 0);
    std::vector<int32_t> before(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(prompt));
    ASSERT_EQ(oracle.tokens(), before);
    for (size_t i = 0; i < options.max_tokens; ++i) {
      SCOPED_TRACE("token " + std::to_string(i));
      const std::vector<double> logits = adjusted(oracle.evaluate(), before, options);
      const int32_t token = tokens[prompt + i];
      const double chosen = logits[static_cast<size_t>(token)];
      if (options.temperature == 0) {
        EXPECT_GE(chosen, *std::ranges::max_element(logits) - 1e-4);
      }
      if (options.logprobs) check_told(answer.told[i], token, i + 1, logits, options.logprobs);
      oracle.add_tokens({token});
      before.push_back(token);
    }
  }

  static void check_told(const Told& told, int32_t token, size_t tokens,
                         const std::vector<double>& logits, uint32_t count) {
    EXPECT_EQ(told.token, token);
    EXPECT_EQ(told.tokens, tokens);
    const double norm = log_sum_exp(logits);
    EXPECT_NEAR(told.logprob, logits[static_cast<size_t>(token)] - norm, 1e-3);
    std::vector<double> sorted = logits;
    std::ranges::sort(sorted, std::greater<>());
    ASSERT_EQ(told.top.size(), count);
    for (size_t i = 0; i < count; ++i) {
      const auto t = static_cast<size_t>(told.top[i].token);
      EXPECT_NEAR(told.top[i].logprob, logits[t] - norm, 1e-3);
      EXPECT_NEAR(told.top[i].logprob, sorted[i] - norm, 1e-3);
    }
  }

  std::vector<int32_t> answer(const std::function<void(tsr::GenerateOptions&)>& change) {
    const tsr::Context context = this->context(SamplingOptions::options());
    tsr::Session session(context);
    fill(context, session);
    tsr::GenerateOptions options = greedy(20);
    change(options);
    return generate(session, options);
  }
};
TESSERA_ON_EACH_DEVICE(SamplingOptions);

TEST_P(SamplingOptions, PenaltiesAreAsDefined) {
  const std::vector<int32_t> plain = answer([](auto&) {});
  const std::function<void(tsr::GenerateOptions&)> cases[] = {
      [](auto& o) { o.repetition_penalty = 1.5f; },
      [](auto& o) { o.repetition_penalty = 0.7f; },
      [](auto& o) { o.frequency_penalty = 0.9f; },
      [](auto& o) { o.presence_penalty = 2; },
      [](auto& o) { o.presence_penalty = -2; },
      [](auto& o) {
        o.repetition_penalty = 1.2f;
        o.frequency_penalty = 0.3f;
        o.presence_penalty = 0.2f;
      },
  };
  int n = 0;
  for (const auto& change : cases) {
    SCOPED_TRACE("case " + std::to_string(n++));
    EXPECT_NE(answer(change), plain) << "the case is too weak to show anything";
    for (const uint32_t window : {0u, 1u, 7u, UINT32_MAX}) {
      SCOPED_TRACE("window " + std::to_string(window));
      tsr::GenerateOptions options = greedy(16);
      change(options);
      options.penalty_window = window;
      options.logprobs = 3;
      check(options);
    }
  }
}

// 0 is 64, what is larger than the session is the session, and the whole of it counts.
TEST_P(SamplingOptions, TheWindowsEnds) {
  const tsr::Context context = this->context();
  const auto with = [&](uint32_t window, size_t prompt) {
    tsr::Session session(context);
    // The digits that end the prompt are one and the same: what stands before them is found only
    // by a window that reaches it.
    session.add_text("97531" + std::string(prompt - 5, '0'));
    tsr::GenerateOptions options = greedy(1);
    options.presence_penalty = -100;
    options.penalty_window = window;
    options.biases = nullptr;
    const std::vector<tsr_logit_bias> no_zero = {{model().tokenize("0")[0], -INFINITY}};
    options.set_biases(no_zero);
    return generate(session, options)[0];
  };
  const auto in_prompt = [&](int32_t token) {
    const std::vector<int32_t> all = model().tokenize("97531");
    return std::ranges::find(all, token) != all.end();
  };
  EXPECT_TRUE(in_prompt(with(0, 60)));
  EXPECT_TRUE(in_prompt(with(0, 68)));
  EXPECT_FALSE(in_prompt(with(0, 69)));
  EXPECT_EQ(with(64, 69), with(0, 69));
  EXPECT_TRUE(in_prompt(with(65, 69)));
  EXPECT_TRUE(in_prompt(with(UINT32_MAX, 69)));
}

TEST_P(SamplingOptions, BiasesAreAddedAndBan) {
  const std::vector<int32_t> plain = answer([](auto&) {});
  std::vector<tsr_logit_bias> ban;
  std::vector<int32_t> without = plain;
  for (int i = 0; i < 5; ++i) {  // what the bans so far left in front
    ban.push_back({without[0], -INFINITY});
    without = answer([&](auto& o) { o.set_biases(ban); });
    for (const tsr_logit_bias& b : ban) EXPECT_EQ(std::ranges::count(without, b.token), 0);
  }
  const std::vector<tsr_logit_bias> push = {{77, 1000}};
  EXPECT_EQ(answer([&](auto& o) { o.set_biases(push); }), std::vector<int32_t>(20, 77));
  const std::vector<tsr_logit_bias> some = {{plain[0], -1.5f}, {40, 0.75f}, {41, 1.25f}};
  tsr::GenerateOptions options = greedy(16);
  options.set_biases(some);
  options.logprobs = 20;
  check(options);
  options.repetition_penalty = 1.3f;  // the bias comes behind it
  options.frequency_penalty = 0.4f;
  check(options);
}

// All tokens but one banned: it is drawn whatever the temperature, with a log-probability of 0, and
// is all that is told.
TEST_P(SamplingOptions, OneTokenLeft) {
  const tsr::Context context = this->context();
  const auto vocabulary = static_cast<int32_t>(model().info().vocabulary);
  std::vector<tsr_logit_bias> all;
  for (int32_t t = 0; t < vocabulary; ++t) {
    if (t != 50) all.push_back({t, -INFINITY});
  }
  for (const float temperature : {0.0f, 1.0f, 1000.0f}) {
    for (const uint32_t top_k : {0u, 4u}) {
      tsr::GenerateOptions options = greedy(3);
      options.temperature = temperature;
      options.top_k = top_k;
      options.logprobs = 5;
      options.set_biases(all);
      tsr::Session session(context);
      session.add_text("what is left");
      session.generate(options);
      const Answer answer = read(session);
      ASSERT_EQ(answer.told.size(), 3u) << answer.message;
      for (const Told& told : answer.told) {
        EXPECT_EQ(told.token, 50);
        EXPECT_NEAR(told.logprob, 0, 1e-6);
        ASSERT_EQ(told.top.size(), 1u);
        EXPECT_EQ(told.top[0].token, 50);
      }
    }
  }
}

// Whatever is drawn from, the distribution that is told is the one before temperature and cuts.
TEST_P(SamplingOptions, LogProbabilitiesOfDrawnTokens) {
  for (const float temperature : {0.0f, 0.7f, 2.0f}) {
    for (const uint32_t top_k : {0u, 2u, 50u}) {
      tsr::GenerateOptions options = greedy(10);
      options.temperature = temperature;
      options.top_k = top_k;
      options.seed = 9;
      options.logprobs = 4;
      check(options);
    }
  }
}

// Asking for them changes nothing else, and whoever does not ask sees none.
TEST_P(SamplingOptions, TellingChangesNothing) {
  const tsr::Context context = this->context();
  for (uint64_t seed = 0; seed < 6; ++seed) {
    tsr::GenerateOptions options = drawn(40, seed);
    options.temperature = 1.5f;
    options.top_k = seed % 2 ? 5 : 0;
    tsr::Session plain(context), telling(context);
    for (tsr::Session* s : {&plain, &telling}) s->add_text("tell me");
    plain.generate(options);
    const Answer want = read(plain);
    EXPECT_TRUE(want.told.empty());
    options.logprobs = 20;
    telling.generate(options);
    const Answer got = read(telling);
    EXPECT_EQ(got.text, want.text);
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_EQ(telling.tokens(), plain.tokens());
    EXPECT_EQ(got.told.size(), got.tokens);
  }
}

// A token is told before its text, also one whose text is held back or belongs to a stop string.
TEST_P(SamplingOptions, TokensOfAStopStringAreTold) {
  const tsr::Context context = this->context();
  tsr::Session reference(context), session(context);
  for (tsr::Session* s : {&reference, &session}) s->add_text("stops");
  // Digits only, so that a token is a character.
  std::vector<tsr_logit_bias> digits;
  for (const char c : std::string("0123456789")) {
    digits.push_back({model().tokenize(std::string(1, c))[0], 900});
  }
  tsr::GenerateOptions options = drawn(30, 2);
  options.logprobs = 1;
  options.set_biases(digits);
  reference.generate(options);
  const Answer whole = read(reference);
  ASSERT_EQ(whole.text.size(), 30u);
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(whole.told[i].text_bytes, i);
  const std::string stop = whole.text.substr(10, 4);
  session.generate(options, {stop});
  const Answer answer = read(session);
  const size_t at = whole.text.find(stop);
  EXPECT_EQ(answer.finish, TSR_FINISH_STOP);
  EXPECT_EQ(answer.text, whole.text.substr(0, at));
  EXPECT_EQ(answer.tokens, at + 4);
  ASSERT_EQ(answer.told.size(), at + 4);
  for (size_t i = 0; i < at + 4; ++i) {
    EXPECT_EQ(answer.told[i].token, whole.told[i].token);
    EXPECT_LE(answer.told[i].text_bytes, std::min(i, at));
  }
}

// Beside others and through a queue of one event the same, told log-probabilities bit for bit.
TEST_P(SamplingOptions, TheSameBesideOthers) {
  const auto ask = [](tsr::Session& session, uint64_t seed) {
    session.add_text("prompt " + std::to_string(seed));
    tsr::GenerateOptions options = drawn(24, seed);
    options.repetition_penalty = 1.3f;
    options.frequency_penalty = 0.2f;
    options.penalty_window = 20;
    options.logprobs = 5;
    session.generate(options);
  };
  std::vector<Answer> alone;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const tsr::Context context = this->context();
    tsr::Session session(context);
    ask(session, seed);
    alone.push_back(read(session));
  }
  const tsr::Context context = this->context();
  tsr::SessionOptions one;
  one.event_capacity = 1;
  std::vector<tsr::Session> sessions;
  for (uint64_t seed = 0; seed < 8; ++seed) sessions.emplace_back(context, one);
  for (uint64_t seed = 0; seed < 8; ++seed) ask(sessions[seed], seed);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Answer together = read(sessions[seed]);
    EXPECT_EQ(together.text, alone[seed].text);
    ASSERT_EQ(together.told.size(), alone[seed].told.size());
    for (size_t i = 0; i < together.told.size(); ++i) {
      EXPECT_EQ(together.told[i].token, alone[seed].told[i].token);
      EXPECT_EQ(together.told[i].logprob, alone[seed].told[i].logprob);
      ASSERT_EQ(together.told[i].top.size(), 5u);
      for (size_t k = 0; k < 5; ++k) {
        EXPECT_EQ(together.told[i].top[k].token, alone[seed].told[i].top[k].token);
        EXPECT_EQ(together.told[i].top[k].logprob, alone[seed].told[i].top[k].logprob);
      }
    }
  }
}

}  // namespace
}  // namespace tessera::test
