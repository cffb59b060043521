#include "samples/bench/measure.hpp"

#include <algorithm>
#include <chrono>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// splitmix64: the same tokens in every run of the program.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<std::int32_t> random_tokens(std::uint64_t& state, std::uint32_t count,
                                        std::int32_t vocabulary) {
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& token : tokens)
    token = static_cast<std::int32_t>(next_random(state) % static_cast<std::uint64_t>(vocabulary));
  return tokens;
}

void require_computed(const tsr::Session& session, std::uint64_t tokens) {
  const std::uint64_t computed = session.report().tokens_computed;
  if (computed < tokens)
    throw tsr::Exception(TSR_INTERNAL, "only " + std::to_string(computed) + " of " +
                                           std::to_string(tokens) +
                                           " tokens were computed: this run measured a cache");
}

void generate(tsr::Session& session, std::uint32_t tokens) {
  tsr::GenerateOptions options;
  options.max_tokens = tokens;
  options.flags = TSR_GENERATE_IGNORE_END;
  session.generate(options);
  for (const tsr::Event& event : session.events()) static_cast<void>(event);
}

}  // namespace

std::string test_name(const Test& test) {
  const std::string name = (test.kind == Kind::kPrompt ? "pp" : "tg") + std::to_string(test.tokens);
  return test.depth ? name + "@d" + std::to_string(test.depth) : name;
}

Meter::Meter(const tsr::Model& model, const tsr::Context& context)
    : context_(context), vocabulary_(static_cast<std::int32_t>(model.info().vocabulary)) {}

std::vector<std::int32_t> Meter::fresh_tokens(std::uint32_t count) {
  std::vector<std::int32_t> tokens = random_tokens(random_, count, vocabulary_);
  tokens.front() = next_first_;
  next_first_ = (next_first_ + 1) % vocabulary_;
  return tokens;
}

double Meter::run_once(const Test& test) {
  tsr::Session session(context_);
  if (test.depth > 0) {
    std::uint64_t seed = 0;
    session.add_tokens(random_tokens(seed, test.depth, vocabulary_));
    session.evaluate();
  }
  if (test.kind == Kind::kPrompt) {
    session.add_tokens(fresh_tokens(test.tokens));
    const Clock::time_point start = Clock::now();
    session.evaluate();
    const double seconds = seconds_since(start);
    require_computed(session, test.tokens);
    return test.tokens / seconds;
  }
  // One token to begin with: as many steps of one token as there are tokens generated.
  session.add_tokens(fresh_tokens(1));
  const Clock::time_point start = Clock::now();
  generate(session, test.tokens);
  const double seconds = seconds_since(start);
  require_computed(session, 1);
  return test.tokens / seconds;
}

std::vector<double> Meter::measure(const Test& test, std::uint32_t repetitions) {
  run_once(test);
  std::vector<double> speeds;
  for (std::uint32_t i = 0; i < repetitions; ++i) speeds.push_back(run_once(test));
  return speeds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace bench
