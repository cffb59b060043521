// One session, one answer.
#include <algorithm>
#include <iterator>
#include <ranges>
#include <set>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

static_assert(std::input_iterator<tsr::Session::Events::Iterator>);
static_assert(std::ranges::input_range<tsr::Session::Events>);

class Generation : public EngineTest {};
TESSERA_ON_EACH_DEVICE(Generation);

TEST_P(Generation, GreedyIsTheArgmaxOfTheLogits) {
  const tsr::Context context = this->context();
  tsr::Session session(context), oracle(context);
  session.add_text("the greedy one");
  const std::vector<int32_t> answer = generate(session, greedy(12));
  ASSERT_EQ(answer.size(), 12u);
  oracle.add_text("the greedy one");
  for (const int32_t token : answer) {
    const std::vector<float> logits = oracle.evaluate();
    EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), token);
    oracle.add_tokens({token});
  }
}

TEST_P(Generation, TheSameWhateverRanBeforeAndOnEveryDevice) {
  std::vector<int32_t> first;
  for (const char* device : {"cpu", "remote"}) {
    const tsr::Context context(model(device), small());
    for (int i = 0; i < 3; ++i) {
      tsr::Session session(context);
      session.add_text("again and again");
      const std::vector<int32_t> answer = generate(session, greedy(20));
      if (first.empty()) first = answer;
      EXPECT_EQ(answer, first) << device << ", round " << i;
    }
  }
}

TEST_P(Generation, SeedsDecide) {
  const tsr::Context context = this->context();
  std::set<std::vector<int32_t>> answers;
  for (const uint64_t seed : {1, 2, 3, 1, 2, 3}) {
    tsr::Session session(context);
    session.add_text("seeds");
    answers.insert(generate(session, drawn(16, seed)));
  }
  EXPECT_EQ(answers.size(), 3u);
}

TEST_P(Generation, SamplingOptionsReachTheSampler) {
  const tsr::Context context = this->context();
  const auto answer = [&](auto change) {
    tsr::GenerateOptions options = drawn(16, 5);
    options.temperature = 3;
    change(options);
    tsr::Session session(context);
    session.add_text("options");
    return generate(session, options);
  };
  const auto plain = answer([](auto& o) { o.temperature = 0; });
  EXPECT_EQ(answer([](auto& o) { o.top_k = 1; }), plain);
  EXPECT_EQ(answer([](auto& o) { o.top_p = 1e-6f; }), plain);
  EXPECT_EQ(answer([](auto& o) { o.min_p = 1; }), plain);
  EXPECT_EQ(answer([](auto& o) { o.temperature = 1e-6f; }), plain);
  EXPECT_NE(answer([](auto&) {}), plain);
}

TEST_P(Generation, StopsAtMaxTokens) {
  const tsr::Context context = this->context();
  for (const uint32_t count : {1u, 2u, 7u, 8u, 9u, 40u}) {
    tsr::Session session(context);
    session.add_text(digits(5, count));
    session.generate(greedy(count));
    const Answer answer = read(session);
    EXPECT_EQ(answer.finish, TSR_FINISH_LENGTH);
    EXPECT_EQ(answer.tokens, count);
    EXPECT_EQ(session.info().tokens, 5 + count);
    EXPECT_EQ(session.info().generating, 0);
    expect_report(session, 5);
    EXPECT_EQ(session.report().tokens_generated, count);
    EXPECT_EQ(session.next()->kind, TSR_EVENT_NONE) << "something behind the last event";
  }
  expect_only_caches(context);
}

TEST_P(Generation, WithoutMaxTokensTheSessionsRestOr256) {
  tsr::ContextOptions options = small();
  options.max_session_tokens = 300;
  const tsr::Context context = this->context(options);
  tsr::GenerateOptions no_limit;
  no_limit.flags = TSR_GENERATE_IGNORE_END;
  tsr::Session session(context);
  session.add_text(digits(10, 1));
  EXPECT_EQ(generate(session, no_limit).size(), 256u);
  EXPECT_EQ(generate(session, no_limit).size(), 300u - 266u);
  std::string message;
  EXPECT_EQ(status_of([&] { session.generate(no_limit); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find("300"), std::string::npos) << message;
  EXPECT_EQ(session.evaluate().size(), model().info().vocabulary) << "a full session is readable";
}

TEST_P(Generation, TheTextIsThatOfTheTokens) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text("text");
  const size_t prompt = session.info().tokens;
  session.generate(drawn(60, 3));
  const Answer answer = read(session);
  std::vector<int32_t> tokens = session.tokens();
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(prompt));
  const std::string bytes = model().detokenize(tokens);
  // Random tokens are rarely whole characters: what is no character became U+FFFD. So compare what
  // is plain.
  const auto plain = [](const std::string& text) {
    std::string kept;
    std::ranges::copy_if(text, std::back_inserter(kept), [](char c) { return c > 0; });
    return kept;
  };
  EXPECT_EQ(plain(answer.text), plain(bytes));
  EXPECT_FALSE(plain(bytes).empty());
}

// The model's end token ends the answer and stays out of the session; with IGNORE_END it is a
// token like others.
TEST_P(Generation, TheEndTokenEndsTheAnswer) {
  const tsr::Context context = this->context();
  const int32_t end = model().info().eos_token;
  int ended = 0;
  for (uint64_t seed = 0; seed < 200 && ended < 3; ++seed) {
    tsr::GenerateOptions options = drawn(24, seed);
    options.temperature = 2;
    tsr::Session ignoring(context), session(context);
    ignoring.add_text("the end");
    const std::vector<int32_t> all = generate(ignoring, options);
    const auto at = std::ranges::find(all, end);
    if (at == all.end()) continue;
    if (std::find_if(all.begin(), at, [](int32_t t) { return t < 3; }) != at) continue;
    ++ended;
    options.flags = 0;
    session.add_text("the end");
    const size_t prompt = session.info().tokens;
    session.generate(options);
    const Answer answer = read(session);
    EXPECT_EQ(answer.finish, TSR_FINISH_END);
    EXPECT_EQ(answer.tokens, static_cast<uint64_t>(at - all.begin()));
    EXPECT_EQ(session.info().tokens, prompt + answer.tokens);
    // The answer goes on as if nothing had happened.
    EXPECT_EQ(generate(session, greedy(3)).size(), 3u);
  }
  EXPECT_EQ(ended, 3) << "too few answers with an end token: choose other seeds";
}

// Stops are found wherever the tokens divide them: for every piece of the answer's plain text.
TEST_P(Generation, StopStringsEndTheAnswer) {
  const tsr::Context context = this->context();
  tsr::GenerateOptions options = drawn(60, 4);
  tsr::Session reference(context);
  reference.add_text("stop here");
  reference.generate(options);
  const std::string whole = read(reference).text;
  ASSERT_GT(whole.size(), 40u);
  for (size_t at = 5; at < 35; at += 6) {
    for (const size_t length : {1u, 3u, 6u}) {
      const std::string stop = whole.substr(at, length);
      if (std::ranges::any_of(stop, [](char c) { return c <= 0; })) continue;
      tsr::Session session(context);
      session.add_text("stop here");
      session.generate(options, {"never in the text", stop});
      const Answer answer = read(session);
      EXPECT_EQ(answer.finish, TSR_FINISH_STOP) << stop;
      EXPECT_EQ(answer.text, whole.substr(0, whole.find(stop))) << stop;
    }
  }
}

TEST_P(Generation, AStopThatDoesNotComeHoldsNothingBack) {
  const tsr::Context context = this->context();
  tsr::Session plain(context), session(context);
  for (tsr::Session* s : {&plain, &session}) s->add_text("hold");
  plain.generate(drawn(30, 8));
  const std::string whole = read(plain).text;
  // Begins like the last character and never comes.
  session.generate(drawn(30, 8), {whole.substr(whole.size() - 1) + "\x01\x02\x03"});
  const Answer answer = read(session);
  EXPECT_EQ(answer.text, whole);
  EXPECT_EQ(answer.finish, TSR_FINISH_LENGTH);
}

TEST_P(Generation, ProgressGrowsToThePrompt) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text(digits(100, 1));
  session.generate(greedy(2));
  const Answer answer = read(session);
  EXPECT_EQ(answer.total, 100u);
  ASSERT_FALSE(answer.progress.empty());
  EXPECT_TRUE(std::ranges::is_sorted(answer.progress));
  EXPECT_EQ(answer.progress.back(), 100u);
}

TEST_P(Generation, LogitsOfAllTokensAreThoseOfEachPrefix) {
  const tsr::Context context = this->context();
  const size_t width = model().info().vocabulary;
  const std::string text = digits(37, 2);
  tsr::Session all(context);
  all.add_text(text);
  const std::vector<float> rows = all.evaluate(TSR_LOGITS_ALL);
  ASSERT_EQ(rows.size(), 37 * width);
  for (const size_t count : {1u, 8u, 9u, 16u, 17u, 37u}) {
    tsr::Session prefix(context);
    prefix.add_text(text.substr(0, count));
    const std::vector<float> last = prefix.evaluate();
    EXPECT_EQ(last, std::vector<float>(rows.begin() + static_cast<ptrdiff_t>((count - 1) * width),
                                       rows.begin() + static_cast<ptrdiff_t>(count * width)))
        << count;
  }
  expect_idle(context);
}

// An answer does not depend on slices, pages or computing threads (pages: rounding only, which
// greedy tokens of this model do not see).
TEST_P(Generation, StepsPagesAndThreadsDoNotMatter) {
  std::vector<int32_t> first;
  for (const uint32_t page_size : {8u, 16u, 32u, 64u}) {
    for (const uint32_t step : {1u, 5u, 64u}) {
      tsr::ContextOptions options = small();
      options.page_size = page_size;
      options.max_step_tokens = step;
      options.threads = step == 64 ? 2 : 1;
      const tsr::Context context = this->context(options);
      tsr::Session session(context);
      session.add_text(digits(70, 3));
      const std::vector<int32_t> answer = generate(session, greedy(10));
      if (first.empty()) first = answer;
      EXPECT_EQ(answer, first) << page_size << " tokens a page, " << step << " a step";
    }
  }
}

TEST_P(Generation, EventsAreARange) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  session.add_text("a range");
  session.generate(greedy(5));
  uint64_t tokens = 0;
  for (const tsr::Event& event : session.events() | std::views::filter([](const tsr::Event& e) {
                                   return e.kind == TSR_EVENT_DONE;
                                 })) {
    tokens += event.tokens;
  }
  EXPECT_EQ(tokens, 5u);
  tsr::Session::Events none = session.events();
  auto at = none.begin();
  EXPECT_TRUE(at == none.end() && none.end() == at && !(at != none.end()));
}

}  // namespace
}  // namespace tessera::test
