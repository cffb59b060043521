// What is told of the outcomes of many prompts.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tests/bench/quality/outcomes.hpp"

namespace tessera::quality {

// One row a group: means over prompts with 95 % intervals, kl_ratio and first_ratio over `mepic` on
// the same prompts where there are any; kl_p90 is over all tokens of all answers, ttft_ms the
// median, hits_full of full prefill on the same prompts. null: nothing to tell.
std::vector<nlohmann::json> rows_of(const Run& run, uint64_t seed);
// What Q8_0 KV adds to the KL of each method, over prompts of kPooled that a run with F16 KV has
// too: one row a method.
std::vector<nlohmann::json> q8_rows_of(const std::vector<Run>& runs, uint64_t seed);

void print_table(const Run& run, const std::vector<nlohmann::json>& rows);
// Each method's KL, and KL of the first token, over that of `mepic`.
void print_ratios(const std::vector<nlohmann::json>& rows);
void print_q8(const std::vector<nlohmann::json>& rows);

}  // namespace tessera::quality
