// Outcomes of many prompts, and what is told of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/quality/runner.hpp"

namespace tessera::quality {

// Of one method and one kind of question.
struct Group {
  std::string method;
  std::string question;
  std::vector<Outcome> outcomes;  // by prompt
};

// Adds to the group of that name, which comes last where it is new.
void add(std::vector<Group>& groups, const std::string& method, const std::string& question,
         const Outcome& outcome);

// Means over prompts with 95 % intervals; kl_p90 is over all tokens of all answers, ttft_ms the
// median, hits_full of full prefill on the same prompts. null: nothing to tell.
nlohmann::json json_of(const Group& group, uint64_t seed);
// One outcome as it is, for pooling.
nlohmann::json json_of(const Outcome& outcome);

void print_table(const std::vector<Group>& groups, uint64_t seed);
// Each method's KL, and KL of the first token, over that of `mepic` on the same prompts.
void print_ratios(const std::vector<Group>& groups, uint64_t seed);

}  // namespace tessera::quality
