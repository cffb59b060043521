// What the measurements of serving_bench share: the model, their counts, texts, and where rows go.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <tessera/tessera.hpp>
#include <vector>

namespace serving {

using Clock = std::chrono::steady_clock;
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

class Bench {
 public:
  // `texts` are files; `json` is one too, or empty. Throws std::runtime_error.
  Bench(const tsr::Model& model, std::uint32_t threads, Counts counts,
        const std::vector<std::string>& texts, const std::string& json);

  const tsr::Model& model;
  const std::uint32_t threads;
  const Counts counts;
  std::mt19937_64 random{1};

  tsr::Context context() const;
  // Contents of the files.
  const std::vector<std::string>& texts() const { return texts_; }
  // The index-th prompt of prompt_tokens tokens of the texts; different for each index.
  Tokens prompt(std::uint32_t index) const;
  // Tokens that no prefix run holds.
  Tokens random_tokens(std::uint32_t count);

  // How sessions, shared and cancel draw that many tokens.
  tsr::GenerateOptions answer(std::uint32_t max_tokens) const;

  // Writes a row to the JSON file, if there is one.
  void log(const nlohmann::json& row);

 private:
  std::vector<std::string> texts_;
  Tokens tokens_;  // of all texts
  std::int32_t vocabulary_;
  std::ofstream json_;
};

// The measurements. Each prints a table and its bar, and logs its rows; throws std::runtime_error
// where the library did something that it must not, whatever the figures.
void measure_sessions(Bench& bench);
void measure_shared(Bench& bench);
void measure_lookup(Bench& bench);
void measure_cancel(Bench& bench);
void measure_idle(Bench& bench);

// Greedy, as many tokens as that.
tsr::GenerateOptions greedy(std::uint32_t max_tokens, bool ignore_end = true);

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
// Of the values in order, the one that `share` of them do not exceed; `values` is not empty.
double quantile(std::vector<double> values, double share);
// Middle value, or the mean of the two middle ones; `values` is not empty.
double median(std::vector<double> values);
const char* met(bool is);

}  // namespace serving
