// Chooses the next token and tells how likely it was.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/step.hpp"

namespace tessera::engine {

struct Sampling {
  float temperature = 0;  // 0: greedy
  uint32_t top_k = 0;     // 0: off
  float top_p = 1;        // 1: off
  float min_p = 0;        // 0: off
  uint64_t seed = 0;
  uint32_t logprobs = 0;  // likeliest tokens to tell of; 0: nothing is told
};

// A token and the natural logarithm of its probability before temperature and cuts.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct TokenReport {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // likeliest first; tokens that cannot come are left out
};

// What the sampler needs to know of a row's logits.
LogitsRequest sampling_request(uint32_t row, const Sampling& sampling, uint32_t vocabulary);

// Temperature first, then top_k, top_p (the token that crosses the limit is kept), min_p. The draw
// is a function of seed and `index`, the number of tokens drawn before, alone: the same whatever
// else runs. Throws corrupt_file where no logit is a finite number.
int32_t sample(const LogitsResult& logits, const Sampling& sampling, uint64_t index);

// What is told of a token that `sample` returned, with sampling.logprobs > 0.
TokenReport report_token(const LogitsResult& logits, const Sampling& sampling, int32_t token);

}  // namespace tessera::engine
