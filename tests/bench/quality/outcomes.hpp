// Outcomes of many prompts, by what they are of, and the files that keep each of them.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/bench/quality/runner.hpp"

namespace tessera::quality {

// Fact and summary, where both were asked over the same chunks.
inline constexpr const char* kPooled = "fact+summary";

// Of one method and one kind of question.
struct Group {
  std::string method;
  std::string question;
  std::map<uint32_t, std::vector<Outcome>> prompts;  // by number; one of each, pooled two
};

// All of the same settings.
struct Run {
  nlohmann::json settings;
  std::set<std::string> processors;
  std::vector<Group> groups;
};

// Adds to the group of that name, which comes last where it is new.
std::vector<Outcome>& outcomes_of(std::vector<Group>& groups, const std::string& method,
                                  const std::string& question, uint32_t prompt);
// Groups by question, then method, each in the order of its list; then those of kPooled, over the
// prompts that have both.
void arrange(std::vector<Group>& groups);

nlohmann::json json_of(const Outcome& outcome);

// What lines of --raw hold: settings, method, question, number of the prompt, outcome. Lines of the
// same settings make a run, from whichever file and machine. Throws corrupt_file where a line is
// none, or tells another outcome than one before.
std::vector<Run> read_runs(const std::vector<std::string>& paths);

}  // namespace tessera::quality
