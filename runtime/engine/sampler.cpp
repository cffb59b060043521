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

struct Candidate {
  int32_t token;
  double weight;  // e^((logit - largest) / temperature)
};

// Likelier first, ties to the lower id.
bool likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

// Keeps the smallest set of likeliest candidates that reaches `share` of the weight, sorted.
void keep_top_p(std::vector<Candidate>& candidates, double share) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  // A heap finds the few that matter without sorting the vocabulary.
  const auto less_likely = [](const Candidate& a, const Candidate& b) { return likelier(b, a); };
  std::ranges::make_heap(candidates, less_likely);
  std::vector<Candidate> kept;
  double reached = 0;
  while (!candidates.empty() && reached < share * total) {
    std::ranges::pop_heap(candidates, less_likely);
    kept.push_back(candidates.back());
    candidates.pop_back();
    reached += kept.back().weight;
  }
  candidates = std::move(kept);
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
    request.full = true;
  }
  request.top_k = std::max(request.top_k, std::min(sampling.logprobs, vocabulary));
  return request;
}

int32_t sample(const LogitsResult& logits, const Sampling& sampling, uint64_t index) {
  if (sampling.temperature == 0) {
    if (logits.top.empty() || !std::isfinite(logits.top.front().logit)) fail_not_finite();
    return logits.top.front().token;
  }
  std::vector<Candidate> candidates;
  const double scale = 1.0 / static_cast<double>(sampling.temperature);
  if (!logits.full.empty()) {
    double largest = -INFINITY;  // NaN is not larger than anything
    for (const float logit : logits.full) {
      if (logit > largest) largest = logit;
    }
    candidates.reserve(logits.full.size());
    for (size_t t = 0; t < logits.full.size(); ++t) {
      const double weight = std::exp((logits.full[t] - largest) * scale);
      if (weight > 0) candidates.push_back({static_cast<int32_t>(t), weight});
    }
  } else {
    const double largest = logits.top.empty() ? 0.0 : double{logits.top.front().logit};
    const size_t kept = std::min<size_t>(logits.top.size(), sampling.top_k);
    for (const TokenLogit& t : std::span(logits.top).first(kept)) {
      const double weight = std::exp((t.logit - largest) * scale);
      if (weight > 0) candidates.push_back({t.token, weight});
    }
  }
  if (candidates.empty()) fail_not_finite();
  if (sampling.top_p < 1) keep_top_p(candidates, sampling.top_p);
  if (sampling.min_p > 0) {  // the largest weight is 1
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < sampling.min_p; });
  }
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  double left = uniform(sampling.seed, index) * total;
  for (const Candidate& c : candidates) {
    left -= c.weight;
    if (left < 0) return c.token;
  }
  return candidates.back().token;
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
