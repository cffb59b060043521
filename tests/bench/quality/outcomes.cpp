#include "tests/bench/quality/outcomes.hpp"

#include <algorithm>
#include <fstream>
#include <tuple>

#include "backends/error.hpp"

namespace tessera::quality {
namespace {

// What outcomes depend on, which machines and threads do not change.
constexpr const char* kSettings[] = {
    "model",      "chunks",        "chunk_tokens", "kv_type",      "reference_kv",
    "math",       "primer_tokens", "head_tokens",  "select_share", "select_layers",
    "own_tokens", "answer_tokens", "seed"};

template <typename Value>
nlohmann::json or_null(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

template <typename Value>
void take(const nlohmann::json& line, const char* key, std::optional<Value>& value) {
  if (const auto at = line.find(key); at != line.end() && !at->is_null()) {
    value = at->template get<Value>();
  }
}

Outcome outcome_of(const nlohmann::json& line) {
  Outcome outcome;
  outcome.kl = line.at("kl").get<std::vector<double>>();
  outcome.kl.at(0);
  outcome.agreement = line.at("top1");
  outcome.recomputed = line.at("recomputed");
  outcome.bytes_private = line.at("bytes_private");
  outcome.bytes_shared = line.at("bytes_shared");
  take(line, "ttft_ms", outcome.ttft_ms);
  take(line, "length_ratio", outcome.length_ratio);
  take(line, "hit", outcome.hit);
  take(line, "full_hit", outcome.full_hit);
  return outcome;
}

Run& run_of(std::vector<Run>& runs, const nlohmann::json& line) {
  nlohmann::json settings;
  for (const char* key : kSettings) settings[key] = line.at(key);
  auto run = std::ranges::find_if(runs, [&](const Run& r) { return r.settings == settings; });
  if (run == runs.end()) run = runs.insert(runs.end(), {settings, {}, {}});
  run->processors.insert(line.at("processor"));
  return *run;
}

void read_line(const nlohmann::json& line, std::vector<Run>& runs) {
  const uint32_t prompt = line.at("prompt");
  const std::string method = line.at("method"), question = line.at("question");
  const Outcome outcome = outcome_of(line);
  std::vector<Outcome>& known = outcomes_of(run_of(runs, line).groups, method, question, prompt);
  if (known.empty()) known.push_back(outcome);
  if (known[0].kl == outcome.kl) return;
  fail(Status::corrupt_file, "another outcome of prompt " + std::to_string(prompt) + " of " +
                                 method + ", " + question + " was read before");
}

size_t place_of_method(const std::string& name) {
  return static_cast<size_t>(
      std::ranges::find_if(kMethods, [&](const Method& m) { return m.name == name; }) -
      kMethods.begin());
}

size_t place_of_question(const std::string& name) {
  return static_cast<size_t>(
      std::ranges::find_if(kQuestions, [&](Question q) { return name_of(q) == name; }) -
      std::begin(kQuestions));
}

}  // namespace

std::vector<Outcome>& outcomes_of(std::vector<Group>& groups, const std::string& method,
                                  const std::string& question, uint32_t prompt) {
  auto group = std::ranges::find_if(
      groups, [&](const Group& g) { return g.method == method && g.question == question; });
  if (group == groups.end()) group = groups.insert(groups.end(), {method, question, {}});
  return group->prompts[prompt];
}

void arrange(std::vector<Group>& groups) {
  std::ranges::stable_sort(groups, {}, [](const Group& g) {
    return std::tuple(place_of_question(g.question), place_of_method(g.method));
  });
  std::vector<Group> pooled;
  for (const Group& fact : groups) {
    for (const Group& summary : groups) {
      if (fact.method != summary.method || fact.question != name_of(Question::fact) ||
          summary.question != name_of(Question::summary)) {
        continue;
      }
      Group both{fact.method, kPooled, {}};
      for (const auto& [prompt, outcomes] : fact.prompts) {
        const auto other = summary.prompts.find(prompt);
        if (other == summary.prompts.end()) continue;
        both.prompts[prompt] = outcomes;
        both.prompts[prompt].push_back(other->second[0]);
      }
      if (!both.prompts.empty()) pooled.push_back(std::move(both));
    }
  }
  std::ranges::move(pooled, std::back_inserter(groups));
}

nlohmann::json json_of(const Outcome& outcome) {
  return {{"kl", outcome.kl},
          {"top1", outcome.agreement},
          {"recomputed", outcome.recomputed},
          {"length_ratio", or_null(outcome.length_ratio)},
          {"hit", or_null(outcome.hit)},
          {"full_hit", or_null(outcome.full_hit)},
          {"bytes_private", outcome.bytes_private},
          {"bytes_shared", outcome.bytes_shared},
          {"ttft_ms", or_null(outcome.ttft_ms)}};
}

std::vector<Run> read_runs(const std::vector<std::string>& paths) {
  std::vector<Run> runs;
  for (const std::string& path : paths) {
    std::ifstream in(path);
    if (!in) fail(Status::io_error, path + ": cannot be read");
    uint32_t number = 0;
    for (std::string text; std::getline(in, text);) {
      const std::string where = path + ":" + std::to_string(++number) + ": ";
      try {
        read_line(nlohmann::json::parse(text), runs);
      } catch (const Error& error) {
        fail(error.status(), where + error.what());
      } catch (const std::exception&) {
        fail(Status::corrupt_file, where + "not an outcome that --raw wrote");
      }
    }
  }
  if (runs.empty()) fail(Status::invalid_argument, "there is no outcome in what --pool names");
  for (Run& run : runs) arrange(run.groups);
  return runs;
}

}  // namespace tessera::quality
