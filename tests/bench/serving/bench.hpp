// What the measurements of serving_bench share beside bench::Bench: their counts, and texts.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <tessera/tessera.hpp>
#include <vector>

#include "tests/bench/common/answers.hpp"
#include "tests/bench/common/bench.hpp"
#include "tests/bench/common/figures.hpp"

namespace serving {

using Tokens = std::vector<std::int32_t>;

struct Counts {
  std::uint32_t rounds = 5;
  std::vector<std::uint32_t> sessions{1, 2, 4, 8, 16, 32, 64};
  std::uint32_t prompt_tokens = 64;
  std::uint32_t new_tokens = 128;
  std::uint32_t shared_sessions = 64;
  std::uint32_t shared_chunks = 8;
  std::uint32_t chunk_tokens = 256;
  std::uint32_t shared_new_tokens = 64;
  std::uint32_t documents = 12;
  std::uint32_t lookup_tokens = 32;
  std::uint32_t tries = 50;
  std::uint32_t long_prompt = 4096;
  double idle_seconds = 5;
  float temperature = 0;  // of sessions, shared and cancel; 0: greedy
  float top_p = 1;
};

// For a test that everything works: figures mean nothing.
Counts quick_counts();

class Bench : public bench::Bench {
 public:
  // `texts` are files; `json` is one too, or empty. Throws std::runtime_error.
  Bench(const tsr::Model& model, std::uint32_t threads, Counts counts,
        const std::vector<std::string>& texts, const std::string& json);

  const Counts counts;
  std::mt19937_64 random{1};

  tsr::Context context() const;
  // Contents of the files.
  const std::vector<std::string>& texts() const { return texts_; }
  // The index-th prompt of prompt_tokens tokens of the texts; different for each index.
  Tokens prompt(std::uint32_t index) const;
  // Tokens that no prefix run holds.
  Tokens random_tokens(std::uint32_t count) { return random_tokens(count, random); }
  Tokens random_tokens(std::uint32_t count, std::mt19937_64& random) const;

  // How sessions, shared and cancel draw that many tokens.
  tsr::GenerateOptions answer(std::uint32_t max_tokens) const;

 private:
  std::vector<std::string> texts_;
  Tokens tokens_;  // of all texts
  std::int32_t vocabulary_;
};

// The measurements. Each prints a table and its bar, and logs its rows; throws std::runtime_error
// where the library did something that it must not, whatever the figures.
void measure_sessions(Bench& bench);
void measure_shared(Bench& bench);
void measure_lookup(Bench& bench);
void measure_cancel(Bench& bench);
void measure_idle(Bench& bench);

}  // namespace serving
