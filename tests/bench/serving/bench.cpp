#include "tests/bench/serving/bench.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace serving {
namespace {

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in || text.empty()) throw std::runtime_error("the text " + path + " cannot be read");
  return text;
}

}  // namespace

Counts quick_counts() {
  Counts counts;
  counts.rounds = 2;
  counts.sessions = {1, 3};
  counts.prompt_tokens = 16;
  counts.new_tokens = 64;
  counts.shared_sessions = 3;
  counts.shared_chunks = 2;
  counts.chunk_tokens = 40;
  counts.documents = 2;
  counts.tries = 2;
  counts.long_prompt = 1024;
  counts.idle_seconds = 0.2;
  return counts;
}

Bench::Bench(const tsr::Model& m, std::uint32_t thread_count, Counts c,
             const std::vector<std::string>& texts, const std::string& json)
    : bench::Bench(m, thread_count, json),
      counts(std::move(c)),
      vocabulary_(static_cast<std::int32_t>(m.info().vocabulary)) {
  for (const std::string& path : texts) {
    texts_.push_back(contents(path));
    const Tokens tokens = model.tokenize(texts_.back());
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }
  const std::uint64_t needed =
      std::uint64_t{counts.prompt_tokens} * std::ranges::max(counts.sessions);
  if (tokens_.size() < needed)
    throw std::runtime_error("the texts have " + std::to_string(tokens_.size()) + " tokens, " +
                             std::to_string(needed) + " are needed for prompts");
}

tsr::Context Bench::context() const {
  tsr::ContextOptions options;
  options.threads = threads;
  return tsr::Context(model, options);
}

Tokens Bench::prompt(std::uint32_t index) const {
  const auto first = tokens_.begin() + std::ptrdiff_t{index} * counts.prompt_tokens;
  return {first, first + counts.prompt_tokens};
}

Tokens Bench::random_tokens(std::uint32_t count, std::mt19937_64& from) const {
  std::uniform_int_distribution<std::int32_t> any(0, vocabulary_ - 1);
  Tokens tokens(count);
  for (std::int32_t& token : tokens) token = any(from);
  return tokens;
}

tsr::GenerateOptions Bench::answer(std::uint32_t max_tokens) const {
  tsr::GenerateOptions options = bench::greedy(max_tokens);
  options.temperature = counts.temperature;
  options.top_p = counts.top_p;
  return options;
}

}  // namespace serving
