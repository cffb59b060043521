#include "tests/bench/quality/summary.hpp"

#include <algorithm>
#include <cstdio>

#include "tests/bench/quality/measures.hpp"

namespace tessera::quality {
namespace {

// A number of each outcome.
template <typename Number>
std::vector<double> each(const Group& group, Number number) {
  std::vector<double> values;
  for (const Outcome& outcome : group.outcomes) values.push_back(number(outcome));
  return values;
}

// Those that there are.
template <typename Number>
std::vector<double> known(const Group& group, Number number) {
  std::vector<double> values;
  for (const Outcome& outcome : group.outcomes) {
    if (const auto value = number(outcome)) values.push_back(static_cast<double>(*value));
  }
  return values;
}

std::vector<double> kl(const Group& group) {
  return each(group, [](const Outcome& o) { return mean(o.kl); });
}

std::vector<double> first_kl(const Group& group) {
  return each(group, [](const Outcome& o) { return o.kl.front(); });
}

template <typename Number>
nlohmann::json optional_mean(const Group& group, Number number) {
  const std::vector<double> values = known(group, number);
  return values.empty() ? nlohmann::json() : nlohmann::json(mean(values));
}

template <typename Value>
nlohmann::json or_null(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

std::string shown(const nlohmann::json& value, int decimals) {
  if (value.is_null()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, value.get<double>());
  return text;
}

}  // namespace

void add(std::vector<Group>& groups, const std::string& method, const std::string& question,
         const Outcome& outcome) {
  auto group = std::ranges::find_if(
      groups, [&](const Group& g) { return g.method == method && g.question == question; });
  if (group == groups.end()) {
    groups.push_back({method, question, {}});
    group = groups.end() - 1;
  }
  group->outcomes.push_back(outcome);
}

nlohmann::json json_of(const Group& group, uint64_t seed) {
  const std::vector<double> means = kl(group), firsts = first_kl(group);
  const Interval range = mean_interval(means, seed), first_range = mean_interval(firsts, seed);
  std::vector<double> tokens;
  for (const Outcome& o : group.outcomes) tokens.insert(tokens.end(), o.kl.begin(), o.kl.end());
  const std::vector<double> times = known(group, [](const Outcome& o) { return o.ttft_ms; });
  return {
      {"method", group.method},
      {"question", group.question},
      {"n", group.outcomes.size()},
      {"kl_mean", mean(means)},
      {"kl_mean_low", range.low},
      {"kl_mean_high", range.high},
      {"kl_p90", percentile(tokens, 0.9)},
      {"kl_first", mean(firsts)},
      {"kl_first_low", first_range.low},
      {"kl_first_high", first_range.high},
      {"top1", mean(each(group, [](const Outcome& o) { return o.agreement; }))},
      {"recomputed", mean(each(group, [](const Outcome& o) { return o.recomputed; }))},
      {"length_ratio", optional_mean(group, [](const Outcome& o) { return o.length_ratio; })},
      {"hits", optional_mean(group, [](const Outcome& o) { return o.hit; })},
      {"hits_full", optional_mean(group, [](const Outcome& o) { return o.full_hit; })},
      {"bytes_private",
       mean(each(group, [](const Outcome& o) { return static_cast<double>(o.bytes_private); }))},
      {"bytes_shared",
       mean(each(group, [](const Outcome& o) { return static_cast<double>(o.bytes_shared); }))},
      {"ttft_ms", times.empty() ? nlohmann::json() : nlohmann::json(percentile(times, 0.5))}};
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

void print_table(const std::vector<Group>& groups, uint64_t seed) {
  std::printf("%-11s%-13s%4s%9s%19s%8s%8s%19s%7s%8s%8s%6s%9s%8s%9s\n", "method", "question", "n",
              "KL", "95 %", "p90", "first", "95 %", "top-1", "recomp", "length", "hits", "private",
              "shared", "TTFT ms");
  for (const Group& group : groups) {
    const nlohmann::json r = json_of(group, seed);
    const auto range = [&](const std::string& key) {
      return std::string("[")
          .append(shown(r[key + "_low"], 4))
          .append(", ")
          .append(shown(r[key + "_high"], 4))
          .append("]");
    };
    const auto mebibytes = [&](const char* key) {
      return shown(r[key].get<double>() / (1 << 20), 2);
    };
    std::printf("%-11s%-13s%4zu%9s%19s%8s%8s%19s%7s%8s%8s%6s%9s%8s%9s\n", group.method.c_str(),
                group.question.c_str(), group.outcomes.size(), shown(r["kl_mean"], 4).c_str(),
                range("kl_mean").c_str(), shown(r["kl_p90"], 3).c_str(),
                shown(r["kl_first"], 4).c_str(), range("kl_first").c_str(),
                shown(r["top1"], 3).c_str(), shown(r["recomputed"], 3).c_str(),
                shown(r["length_ratio"], 2).c_str(), shown(r["hits"], 2).c_str(),
                mebibytes("bytes_private").c_str(), mebibytes("bytes_shared").c_str(),
                shown(r["ttft_ms"], 1).c_str());
  }
  std::printf("KL in nats; recomp: share of the chunks' tokens; private, shared: MiB of KV\n");
}

void print_ratios(const std::vector<Group>& groups, uint64_t seed) {
  for (const Group& base : groups) {
    if (base.method != "mepic") continue;
    std::printf("\n%s, against mepic, 95 %% intervals\n", base.question.c_str());
    for (const Group& group : groups) {
      if (group.question != base.question) continue;
      const Interval range = ratio_interval(kl(group), kl(base), seed);
      const Interval first = ratio_interval(first_kl(group), first_kl(base), seed);
      std::printf("%-11sKL %5.2fx [%4.2f, %4.2f]   first token %5.2fx [%4.2f, %4.2f]\n",
                  group.method.c_str(), mean(kl(group)) / mean(kl(base)), range.low, range.high,
                  mean(first_kl(group)) / mean(first_kl(base)), first.low, first.high);
    }
  }
}

}  // namespace tessera::quality
