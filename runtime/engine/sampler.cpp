#include "runtime/engine/sampler.hpp"

#include <algorithm>
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
  double weight;  // e^((logit - largest) / temperature)
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

// Keeps the fewest likeliest that reach `wanted`, halving what is not decided yet.
void keep_likeliest(Candidates& candidates, double wanted) {
  auto first = candidates.begin(), last = candidates.end();  // those before are kept
  while (last - first > 1) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, likelier);
    const double half = sum({first, middle});
    if (half >= wanted) {
      last = middle;
    } else {
      wanted -= half;
      first = middle;
    }
  }
  candidates.erase(wanted > 0 ? last : first, candidates.end());
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
  const double largest = double{logits.top.front().logit};
  const double scale = 1.0 / static_cast<double>(sampling.temperature);
  const auto weight = [&](float logit) { return std::exp((double{logit} - largest) * scale); };

  Candidates candidates;
  const bool all = sampling.top_k == 0;  // the vocabulary may be drawn from
  const std::span<const TokenLogit> top =
      std::span(logits.top)
          .first(std::min<size_t>(logits.top.size(), all ? kLikeliest : sampling.top_k));
  for (const TokenLogit& t : top) {
    if (weight(t.logit) > 0) candidates.push_back({t.token, weight(t.logit)});
  }
  const auto add_others = [&] {  // behind the likeliest, in the order of their ids
    const TokenLogit& last = top.back();
    for (size_t i = 0; i < logits.full.size(); ++i) {
      const auto token = static_cast<int32_t>(i);
      const float logit = logits.full[i];
      if (logit > last.logit || (logit == last.logit && token <= last.token)) continue;
      if (weight(logit) > 0) candidates.push_back({token, weight(logit)});
    }
  };

  const double total = all ? double{logits.tempered_sum} : sum(candidates);
  if (sampling.top_p < 1) {
    const double wanted = static_cast<double>(sampling.top_p) * total;
    const size_t count = reach(candidates, wanted);
    if (count <= candidates.size()) {
      candidates.resize(count);
    } else if (all) {
      add_others();
      keep_likeliest(candidates, wanted);
      std::ranges::sort(candidates, likelier);
    }
  } else if (all && sampling.min_p <= candidates.back().weight) {
    const double drawn = uniform(sampling.seed, index) * total;
    if (sampling.min_p == 0 && drawn < sum(candidates)) return draw(candidates, drawn);
    add_others();
    if (sampling.min_p == 0) return draw(candidates, drawn);
  }
  if (sampling.min_p > 0) {  // the largest weight is 1
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < sampling.min_p; });
  }
  return draw(candidates, uniform(sampling.seed, index) * sum(candidates));
}

TokenReport report_token(const LogitsResult& logits, const Sampling& sampling, int32_t token) {
  const auto logprob = [&](float logit) {  // rounding may lift it above 0
    return std::min(0.0f, static_cast<float>(double{logit} - double{logits.log_sum_exp}));
  };
  TokenReport report;
  report.chosen.token = token;
  if (!logits.full.empty()) {
    report.chosen.logprob = logprob(logits.full[static_cast<size_t>(token)]);
  } else {
    const auto it = std::ranges::find(logits.top, token, &TokenLogit::token);
    report.chosen.logprob = logprob(it->logit);
  }
  const size_t count = std::min<size_t>(logits.top.size(), sampling.logprobs);
  for (const TokenLogit& t : std::span(logits.top).first(count)) {
    if (std::isfinite(t.logit)) report.top.push_back({t.token, logprob(t.logit)});
  }
  return report;
}

}  // namespace tessera::engine
