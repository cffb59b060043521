// The two commands of tessera-rag: their options and what they do.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <tessera/tessera.hpp>
#include <vector>

#include "samples/common/model_options.hpp"

namespace rag {

inline constexpr const char* kDefaultLibrary = "tessera-library.db";

// Exit status of `ask` when nothing in the library matches a question.
inline constexpr int kNothingFound = 2;

struct IndexOptions {
  common::ModelOptions model;
  std::string library = kDefaultLibrary;
  std::string folder;
  bool new_primer = false;
  bool json = false;
};

struct AskOptions {
  common::ModelOptions model;
  std::string library = kDefaultLibrary;
  std::vector<std::string> questions;
  std::uint32_t top = 3;
  std::uint32_t max_tokens = 160;
  tsr_repair repair = TSR_REPAIR_DEFAULT;
  bool compare = false;
  bool json = false;
};

// `options` outlives `app`.
void add_index_options(CLI::App& app, IndexOptions& options);
void add_ask_options(CLI::App& app, AskOptions& options);

// Return the exit status; throw what the program cannot go on after.
int run_index(const IndexOptions& options);
int run_ask(const AskOptions& options);

}  // namespace rag
