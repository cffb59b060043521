#include "runtime/engine/sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "backends/error.hpp"

namespace tessera::engine {
namespace {

// SplitMix64's output function over seed and index: uniform in [0, 1).
double uniform(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

// Tokens whose logits come sorted, so that a draw seldom needs to look at the vocabulary.
constexpr uint32_t kLikeliest = 256;

struct Candidate {
  int32_t token;
  double weight;  // of LogitsRequest::temperature
};
using Candidates = std::vector<Candidate>;

// Likelier first, ties to the lower id.
bool likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

double sum(std::span<const Candidate> candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

// How many of the sorted candidates reach `wanted`, or one more than there are.
size_t reach(std::span<const Candidate> sorted, double wanted) {
  double reached = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    reached += sorted[i].weight;
    if (reached >= wanted) return i + 1;
  }
  return sorted.size() + 1;
}

// The fewest likeliest tokens whose weights reach `wanted`. A histogram over the weights' exponents
// and first four bits leaves those of one bin to be sorted.
Candidates nucleus(std::span<const float> weights, double wanted) {
  constexpr uint32_t kBins = 1 << 12;
  const auto bin = [](float weight) { return std::bit_cast<uint32_t>(weight) >> 19; };
  std::vector<double> sums(kBins);
  for (const float weight : weights) sums[bin(weight)] += double{weight};
  uint32_t last = kBins;
  double left = wanted;
  while (last > 1 && left > 0) left -= sums[--last];
  Candidates kept, edge;
  for (size_t t = 0; t < weights.size(); ++t) {
    if (weights[t] == 0 || bin(weights[t]) < last) continue;
    Candidates& to = bin(weights[t]) == last ? edge : kept;
    to.push_back({static_cast<int32_t>(t), double{weights[t]}});
  }
  std::ranges::sort(edge, likelier);
  const size_t some = std::min(reach(edge, left + sums[last]), edge.size());
  kept.insert(kept.end(), edge.begin(), edge.begin() + static_cast<ptrdiff_t>(some));
  return kept;
}

// Behind the candidates all other tokens, in the order of their ids.
void add_others(std::span<const float> weights, Candidates& candidates) {
  std::vector<bool> known(weights.size());
  for (const Candidate& c : candidates) known[static_cast<size_t>(c.token)] = true;
  for (size_t t = 0; t < weights.size(); ++t) {
    if (weights[t] > 0 && !known[t]) {
      candidates.push_back({static_cast<int32_t>(t), double{weights[t]}});
    }
  }
}

// The candidate in whose part of the weights, laid end to end, `at` falls.
int32_t draw(std::span<const Candidate> candidates, double at) {
  for (const Candidate& c : candidates) {
    at -= c.weight;
    if (at < 0) return c.token;
  }
  return candidates.back().token;
}

[[noreturn]] void fail_not_finite() {
  fail(Status::corrupt_file,
       "the model's logits are not finite numbers; its weights must be damaged");
}

}  // namespace

LogitsRequest sampling_request(uint32_t row, const Sampling& sampling, uint32_t vocabulary) {
  LogitsRequest request;
  request.row = row;
  if (sampling.temperature == 0) {
    request.top_k = 1;
  } else if (sampling.top_k > 0) {
    request.top_k = std::min(sampling.top_k, vocabulary);
  } else {
    request.top_k = std::min(kLikeliest, vocabulary);
    request.temperature = sampling.temperature;
    request.full = true;
  }
  request.top_k = std::max(request.top_k, std::min(sampling.logprobs, vocabulary));
  return request;
}

int32_t sample(const LogitsResult& logits, const Sampling& sampling, uint64_t index) {
  if (logits.top.empty() || !std::isfinite(logits.top.front().logit) ||
      std::isnan(logits.log_sum_exp)) {
    fail_not_finite();
  }
  if (sampling.temperature == 0) return logits.top.front().token;
  const bool all = sampling.top_k == 0;  // the vocabulary may be drawn from
  const auto count = std::min<size_t>(logits.top.size(), all ? kLikeliest : sampling.top_k);
  const double largest = double{logits.top.front().logit};
  const double scale = 1.0 / static_cast<double>(sampling.temperature);
  Candidates candidates;
  for (const TokenLogit& t : std::span(logits.top).first(count)) {
    const double weight = all ? double{logits.full[static_cast<size_t>(t.token)]}
                              : std::exp((double{t.logit} - largest) * scale);
    if (weight > 0) candidates.push_back({t.token, weight});
  }
  const double total = all ? double{logits.weight_sum} : sum(candidates);
  const double at = uniform(sampling.seed, index);
  const auto min_p = static_cast<double>(sampling.min_p);
  if (sampling.top_p < 1) {
    const double wanted = static_cast<double>(sampling.top_p) * total;
    const size_t reached = reach(candidates, wanted);
    if (reached <= candidates.size()) {
      candidates.resize(reached);
    } else if (all) {
      candidates = nucleus(logits.full, wanted);
    }
  } else if (all && min_p <= candidates.back().weight) {
    if (min_p == 0 && at * total < sum(candidates)) return draw(candidates, at * total);
    add_others(logits.full, candidates);
  }
  if (min_p > 0) {  // the largest weight is 1
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p; });
  }
  return draw(candidates, at * sum(candidates));
}

TokenReport report_token(const LogitsResult& logits, const Sampling& sampling, int32_t token) {
  const auto logprob = [&](double logit) {  // rounding may lift it above 0
    return std::min(0.0f, static_cast<float>(logit - double{logits.log_sum_exp}));
  };
  TokenReport report;
  report.chosen.token = token;
  const auto it = std::ranges::find(logits.top, token, &TokenLogit::token);
  report.chosen.logprob =
      logprob(it != logits.top.end() ? double{it->logit}
                                     : double{logits.top.front().logit} +
                                           static_cast<double>(sampling.temperature) *
                                               std::log(logits.full[static_cast<size_t>(token)]));
  const size_t count = std::min<size_t>(logits.top.size(), sampling.logprobs);
  for (const TokenLogit& t : std::span(logits.top).first(count)) {
    if (std::isfinite(t.logit)) report.top.push_back({t.token, logprob(double{t.logit})});
  }
  return report;
}

}  // namespace tessera::engine
