// What every program's main does: options, whom and where it measures, the measurements that are
// asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "samples/common/model_options.hpp"
#include "tests/bench/common/bench.hpp"

namespace bench {

struct Options {
  common::ModelOptions model;
  std::vector<std::string> only;
  std::string json;
  bool quick = false;
};

// By name, in the order in which they are measured.
template <typename Program>
using Measurements = std::vector<std::pair<std::string, void (*)(Program&)>>;

// Adds --model, --threads, --only, --json and --quick. `options` outlives `app`.
void add_options(CLI::App& app, Options& options, const std::vector<std::string>& measurements);

// Prints the model, the processor and its threads, and logs a row of them; `more` goes into it.
void introduce(Bench& bench, const tsr::Runtime& runtime, const Options& options,
               const nlohmann::json& more = nlohmann::json::object());

template <typename Program>
std::vector<std::string> names(const Measurements<Program>& measurements) {
  std::vector<std::string> all;
  for (const auto& [name, measure] : measurements) all.push_back(name);
  return all;
}

template <typename Program>
void measure(Program& program, const Measurements<Program>& measurements,
             const std::vector<std::string>& only) {
  for (const auto& [name, one] : measurements) {
    if (!only.empty() && !std::ranges::count(only, name)) continue;
    one(program);
    std::fflush(stdout);
  }
}

}  // namespace bench
