#include "tests/bench/quality/summary.hpp"

#include <algorithm>
#include <cstdio>

#include "tests/bench/quality/measures.hpp"

namespace tessera::quality {
namespace {

constexpr const char* kBase = "mepic";

// A number of each outcome, those that there are.
template <typename Number>
std::vector<double> each(const Group& group, Number number) {
  std::vector<double> values;
  for (const auto& [prompt, outcomes] : group.prompts) {
    for (const Outcome& outcome : outcomes) {
      const std::optional value = number(outcome);
      if (value) values.push_back(static_cast<double>(*value));
    }
  }
  return values;
}

template <typename Number>
nlohmann::json mean_or_null(const Group& group, Number number) {
  const std::vector<double> values = each(group, number);
  return values.empty() ? nlohmann::json() : nlohmann::json(mean(values));
}

double kl(const Outcome& outcome) {
  return mean(outcome.kl);
}

double first_kl(const Outcome& outcome) {
  return outcome.kl.front();
}

using Number = double (*)(const Outcome&);

// Of each prompt, the mean over its outcomes.
std::vector<double> by_prompt(const Group& group, Number number) {
  std::vector<double> values;
  for (const auto& [prompt, outcomes] : group.prompts) {
    double sum = 0;
    for (const Outcome& outcome : outcomes) sum += number(outcome);
    values.push_back(sum / static_cast<double>(outcomes.size()));
  }
  return values;
}

// Those prompts of `group` that `other` has too.
Group common(const Group& group, const Group& other) {
  Group both = group;
  std::erase_if(both.prompts, [&](const auto& one) { return !other.prompts.contains(one.first); });
  return both;
}

const Group* find(const Run& run, const std::string& method, const std::string& question) {
  const auto group = std::ranges::find_if(
      run.groups, [&](const Group& g) { return g.method == method && g.question == question; });
  return group == run.groups.end() ? nullptr : &*group;
}

// name, name_low, name_high.
void put(nlohmann::json& row, const std::string& name, double value, const Interval& interval) {
  row[name] = value;
  row[name + "_low"] = interval.low;
  row[name + "_high"] = interval.high;
}

void put_mean(nlohmann::json& row, const std::string& name, const std::vector<double>& values,
              uint64_t seed) {
  put(row, name, mean(values), mean_interval(values, seed));
}

void put_ratio(nlohmann::json& row, const std::string& name, const Group& over, const Group& under,
               Number number, uint64_t seed) {
  const std::vector<double> ours = by_prompt(over, number), theirs = by_prompt(under, number);
  put(row, name, mean(ours) / mean(theirs), ratio_interval(ours, theirs, seed));
}

nlohmann::json row_of(const Group& group, uint64_t seed) {
  std::vector<double> tokens;
  for (const auto& [prompt, outcomes] : group.prompts) {
    for (const Outcome& o : outcomes) tokens.insert(tokens.end(), o.kl.begin(), o.kl.end());
  }
  const auto mean_of = [&](auto number) {
    return mean_or_null(group, [&](const Outcome& o) { return std::optional(number(o)); });
  };
  const auto times = each(group, [](const Outcome& o) { return o.ttft_ms; });
  nlohmann::json row = {
      {"kind", "quality"},
      {"method", group.method},
      {"question", group.question},
      {"n", group.prompts.size()},
      {"kl_p90", percentile(tokens, 0.9)},
      {"top1", mean_of([](const Outcome& o) { return o.agreement; })},
      {"recomputed", mean_of([](const Outcome& o) { return o.recomputed; })},
      {"length_ratio", mean_or_null(group, [](const Outcome& o) { return o.length_ratio; })},
      {"hits", mean_or_null(group, [](const Outcome& o) { return o.hit; })},
      {"hits_full", mean_or_null(group, [](const Outcome& o) { return o.full_hit; })},
      {"bytes_private", mean_of([](const Outcome& o) { return o.bytes_private; })},
      {"bytes_shared", mean_of([](const Outcome& o) { return o.bytes_shared; })},
      {"ttft_ms", times.empty() ? nlohmann::json() : nlohmann::json(percentile(times, 0.5))}};
  put_mean(row, "kl_mean", by_prompt(group, kl), seed);
  put_mean(row, "kl_first", by_prompt(group, first_kl), seed);
  return row;
}

std::string shown(const nlohmann::json& value, int decimals) {
  if (value.is_null()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, value.get<double>());
  return text;
}

std::string interval(const nlohmann::json& row, const std::string& name, int decimals) {
  return std::string("[")
      .append(shown(row.at(name + "_low"), decimals))
      .append(", ")
      .append(shown(row.at(name + "_high"), decimals))
      .append("]");
}

std::string text(const nlohmann::json& row, const char* key) {
  return row.at(key).get<std::string>();
}

}  // namespace

std::vector<nlohmann::json> rows_of(const Run& run, uint64_t seed) {
  std::vector<nlohmann::json> rows;
  for (const Group& group : run.groups) {
    nlohmann::json row = row_of(group, seed);
    if (const Group* base = find(run, kBase, group.question)) {
      const Group ours = common(group, *base), theirs = common(*base, group);
      if (!ours.prompts.empty()) {
        put_ratio(row, "kl_ratio", ours, theirs, kl, seed);
        put_ratio(row, "first_ratio", ours, theirs, first_kl, seed);
      }
    }
    row.update(run.settings);
    row["processors"] = run.processors;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<nlohmann::json> q8_rows_of(const std::vector<Run>& runs, uint64_t seed) {
  std::vector<nlohmann::json> rows;
  for (const Run& q8 : runs) {
    nlohmann::json wanted = q8.settings;
    wanted["kv_type"] = "f16";
    const auto f16 = std::ranges::find(runs, wanted, &Run::settings);
    if (q8.settings.at("kv_type") != "q8_0" || f16 == runs.end()) continue;
    for (const Method& method : kMethods) {
      const Group* left = find(q8, method.name, kPooled);
      const Group* right = find(*f16, method.name, kPooled);
      if (!left || !right) continue;
      std::vector<double> added = by_prompt(common(*left, *right), kl);
      const std::vector<double> without = by_prompt(common(*right, *left), kl);
      if (added.empty()) continue;
      for (size_t i = 0; i < added.size(); ++i) added[i] -= without[i];
      nlohmann::json row = {{"kind", "q8_0"},
                            {"method", method.name},
                            {"n", added.size()},
                            {"math", q8.settings.at("math")}};
      put_mean(row, "kl_added", added, seed);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

void print_table(const Run& run, const std::vector<nlohmann::json>& rows) {
  const nlohmann::json& s = run.settings;
  std::printf("\n%s, %u x %u, KV %s, %s math; KL to full prefill in nats\n",
              text(s, "model").c_str(), s.at("chunks").get<uint32_t>(),
              s.at("chunk_tokens").get<uint32_t>(), text(s, "kv_type").c_str(),
              text(s, "math").c_str());
  for (const std::string& processor : run.processors) std::printf("on %s\n", processor.c_str());
  std::printf("%-11s%-13s%4s%9s%19s%8s%8s%19s%7s%8s%8s%6s%6s%9s%8s%9s\n", "method", "question", "n",
              "KL", "95 %", "p90", "first", "95 %", "top-1", "recomp", "length", "hits", "full",
              "private", "shared", "TTFT ms");
  for (const nlohmann::json& r : rows) {
    const auto mebibytes = [&](const char* key) {
      return shown(r.at(key).get<double>() / (1 << 20), 2);
    };
    std::printf("%-11s%-13s%4zu%9s%19s%8s%8s%19s%7s%8s%8s%6s%6s%9s%8s%9s\n",
                text(r, "method").c_str(), text(r, "question").c_str(), r.at("n").get<size_t>(),
                shown(r["kl_mean"], 4).c_str(), interval(r, "kl_mean", 4).c_str(),
                shown(r["kl_p90"], 3).c_str(), shown(r["kl_first"], 4).c_str(),
                interval(r, "kl_first", 4).c_str(), shown(r["top1"], 3).c_str(),
                shown(r["recomputed"], 3).c_str(), shown(r["length_ratio"], 2).c_str(),
                shown(r["hits"], 2).c_str(), shown(r["hits_full"], 2).c_str(),
                mebibytes("bytes_private").c_str(), mebibytes("bytes_shared").c_str(),
                shown(r["ttft_ms"], 1).c_str());
  }
  std::printf(
      "recomp: share of the chunks' tokens; full: hits of full prefill; private, shared: MiB of "
      "KV\n"
      "%s: n counts the two questions over the same chunks as one\n",
      kPooled);
}

void print_ratios(const std::vector<nlohmann::json>& rows) {
  std::string question;
  for (const nlohmann::json& r : rows) {
    if (!r.contains("kl_ratio")) continue;
    if (question != r["question"]) {
      question = text(r, "question");
      std::printf("\n%s, against %s, 95 %% intervals\n", question.c_str(), kBase);
    }
    std::printf("%-11sKL %5sx %-14s first token %5sx %s\n", text(r, "method").c_str(),
                shown(r["kl_ratio"], 2).c_str(), interval(r, "kl_ratio", 2).c_str(),
                shown(r["first_ratio"], 2).c_str(), interval(r, "first_ratio", 2).c_str());
  }
}

void print_q8(const std::vector<nlohmann::json>& rows) {
  if (rows.empty()) return;
  std::printf("\nQ8_0 KV less F16 KV, %s, KL in nats\n", kPooled);
  for (const nlohmann::json& r : rows) {
    std::printf("%-11s%-10s%4zu  %s %s\n", text(r, "method").c_str(), text(r, "math").c_str(),
                r.at("n").get<size_t>(), shown(r["kl_added"], 4).c_str(),
                interval(r, "kl_added", 4).c_str());
  }
}

}  // namespace tessera::quality
