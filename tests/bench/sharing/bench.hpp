// What the measurements of sharing_bench share beside bench::Bench: their counts, and texts.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <tessera/tessera.hpp>
#include <utility>
#include <vector>

#include "tests/bench/common/answers.hpp"
#include "tests/bench/common/bench.hpp"
#include "tests/bench/common/figures.hpp"

namespace sharing {

struct Counts {
  std::uint32_t rounds = 7;  // of times to the first token
  std::uint32_t chunks = 8;  // of a prompt whose time is taken, likewise below
  std::uint32_t chunk_tokens = 256;
  std::uint32_t question_tokens = 32;
  std::uint32_t workloads = 5;  // of memory, each drawn anew
  std::vector<std::uint32_t> sessions{1, 2, 4, 8, 12, 16, 24, 32, 48, 64};
};

// For a test that everything works: figures mean nothing.
Counts quick_counts();

class Bench : public bench::Bench {
 public:
  Bench(const tsr::Model& m, std::uint32_t thread_count, Counts c, const std::string& json)
      : bench::Bench(m, thread_count, json), counts(std::move(c)) {}

  const Counts counts;
};

// Texts of an exact number of tokens: words, or digits, that the model has a token each for.
class Texts {
 public:
  Texts(const tsr::Model& model, std::uint64_t seed);
  std::string text(std::uint32_t tokens);

 private:
  std::vector<std::string> words_;
  std::mt19937_64 random_;
};

// The measurements. Each prints a table and its bars, and logs its rows; throws std::runtime_error
// where the library did something that it must not, whatever the figures.
void measure_first_token(Bench& bench);
void measure_memory(Bench& bench);

}  // namespace sharing
