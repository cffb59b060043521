// The sampler against a naive oracle that sorts all tokens.
#include "runtime/engine/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/error.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::engine {
namespace {

constexpr uint32_t kVocabulary = 40;

// What a backend returns for the request.
LogitsResult answer(const std::vector<float>& logits, const LogitsRequest& request) {
  LogitsResult result;
  for (size_t t = 0; t < logits.size(); ++t) {
    result.top.push_back({static_cast<int32_t>(t), logits[t]});
  }
  std::stable_sort(result.top.begin(), result.top.end(),
                   [](const TokenLogit& a, const TokenLogit& b) { return a.logit > b.logit; });
  const double largest = result.top.front().logit;
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - largest);
  result.log_sum_exp = static_cast<float>(largest + std::log(sum));
  result.top.resize(request.top_k);
  if (!request.full) return result;
  result.full = logits;
  if (request.temperature == 0) return result;
  double total = 0;
  for (float& x : result.full) {
    x = static_cast<float>(std::exp((x - largest) / request.temperature));
    total += x;
  }
  result.weight_sum = static_cast<float>(total);
  return result;
}

int32_t draw(const std::vector<float>& logits, const Sampling& sampling, uint64_t index) {
  const LogitsRequest request = sampling_request(0, sampling, static_cast<uint32_t>(logits.size()));
  return sample(answer(logits, request), sampling, index);
}

// Probability of each token: temperature, then the k likeliest, then the smallest set of likeliest
// ones that reaches top_p, then those with at least min_p of the likeliest one's probability.
std::vector<double> oracle(const std::vector<float>& logits, const Sampling& s) {
  std::vector<size_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (s.top_k > 0 && s.top_k < order.size()) order.resize(s.top_k);
  const double largest = logits[order[0]];
  std::vector<double> weights;
  double total = 0;
  for (const size_t t : order) {
    weights.push_back(std::exp((logits[t] - largest) / s.temperature));
    total += weights.back();
  }
  std::vector<double> kept(logits.size(), 0.0);
  double reached = 0, sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (s.top_p < 1 && reached >= s.top_p * total) break;
    reached += weights[i];
    if (weights[i] < s.min_p * weights[0]) continue;
    kept[order[i]] = weights[i];
    sum += weights[i];
  }
  for (double& k : kept) k /= sum;
  return kept;
}

std::vector<float> some_logits(uint64_t seed, uint32_t vocabulary = kVocabulary) {
  test::Random random(seed);
  std::vector<float> logits(vocabulary);
  for (float& l : logits) l = static_cast<float>(random.below(1000)) / 150.0f - 3;
  return logits;
}

// Frequencies of many draws against the oracle's probabilities.
void expect_distribution(uint32_t vocabulary, uint64_t seed, const Sampling& sampling) {
  constexpr int kDraws = 20'000;
  const std::vector<float> logits = some_logits(seed, vocabulary);
  const std::vector<double> wanted = oracle(logits, sampling);
  const LogitsResult result = answer(logits, sampling_request(0, sampling, vocabulary));
  std::vector<int> counts(vocabulary, 0);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(sample(result, sampling, static_cast<uint64_t>(i)))];
  }
  for (uint32_t t = 0; t < vocabulary; ++t) {
    if (wanted[t] == 0) {
      EXPECT_EQ(counts[t], 0) << "token " << t << " is cut off";
      continue;
    }
    const double deviation = std::sqrt(wanted[t] * (1 - wanted[t]) / kDraws);
    EXPECT_NEAR(counts[t] / double{kDraws}, wanted[t], 5.5 * deviation + 1e-9) << "token " << t;
  }
}

TEST(Sampler, DrawsTheOraclesDistribution) {
  const Sampling cases[] = {
      {.temperature = 1},
      {.temperature = 0.5f},
      {.temperature = 2},
      {.temperature = 1, .top_k = 5},
      {.temperature = 1, .top_k = 1000},
      {.temperature = 1, .top_p = 0.6f},
      {.temperature = 1.5f, .top_p = 0.05f},
      {.temperature = 1, .min_p = 0.2f},
      {.temperature = 1, .min_p = 1},
      {.temperature = 1.3f, .top_k = 12, .top_p = 0.8f, .min_p = 0.1f},
  };
  uint64_t seed = 1;
  for (Sampling sampling : cases) {
    sampling.seed = ++seed;
    SCOPED_TRACE("case " + std::to_string(seed));
    expect_distribution(kVocabulary, seed, sampling);
  }
}

// More tokens than come sorted, and distributions that need them.
TEST(Sampler, DrawsFromALargeVocabulary) {
  const Sampling cases[] = {
      {.temperature = 1},
      {.temperature = 30},
      {.temperature = 0.05f},
      {.temperature = 1, .top_p = 0.5f},
      {.temperature = 30, .top_p = 0.2f},
      {.temperature = 30, .top_p = 0.77f},
      {.temperature = 30, .top_p = 0.9999f},
      {.temperature = 30, .min_p = 0.8f},
      {.temperature = 1, .min_p = 0.5f},
      {.temperature = 30, .top_p = 0.9f, .min_p = 0.85f},
  };
  uint64_t seed = 100;
  for (Sampling sampling : cases) {
    sampling.seed = ++seed;
    SCOPED_TRACE("case " + std::to_string(seed));
    expect_distribution(700, seed, sampling);
  }
}

// Asking for more tokens than are drawn from changes nothing; what is told is the distribution
// before temperature and cuts.
TEST(Sampler, TellsLogProbabilities) {
  std::vector<float> logits = some_logits(9);
  logits[3] = -std::numeric_limits<float>::infinity();
  double total = 0;
  for (const float l : logits) total += std::exp(double{l});
  for (Sampling sampling : {Sampling{}, Sampling{.temperature = 2, .top_k = 3},
                            Sampling{.temperature = 0.5f, .top_p = 0.9f}}) {
    for (const uint32_t count : {1u, 5u, kVocabulary}) {
      const int32_t plain = draw(logits, sampling, 4);
      Sampling telling = sampling;
      telling.logprobs = count;
      LogitsResult result = answer(logits, sampling_request(0, telling, kVocabulary));
      result.log_sum_exp = static_cast<float>(std::log(total));
      const int32_t token = sample(result, telling, 4);
      EXPECT_EQ(token, plain);
      const TokenReport report = report_token(result, telling, token);
      EXPECT_EQ(report.chosen.token, token);
      EXPECT_NEAR(report.chosen.logprob, logits[static_cast<size_t>(token)] - std::log(total),
                  1e-5);
      ASSERT_EQ(report.top.size(), std::min(count, kVocabulary - 1)) << "one token is banned";
      for (size_t i = 0; i < report.top.size(); ++i) {
        EXPECT_EQ(report.top[i].token, result.top[i].token);
        EXPECT_NEAR(report.top[i].logprob, result.top[i].logit - std::log(total), 1e-5);
      }
    }
  }
}

TEST(Sampler, GreedyTakesTheLikeliestAndTheLowestOfEquals) {
  std::vector<float> logits = some_logits(7);
  logits[11] = logits[30] = 50;
  for (uint64_t i = 0; i < 5; ++i) EXPECT_EQ(draw(logits, {.seed = i}, i), 11);
  EXPECT_EQ(sampling_request(3, {}, kVocabulary).row, 3u);
  EXPECT_FALSE(sampling_request(3, {}, kVocabulary).full) << "one token is enough";
}

TEST(Sampler, ADrawDependsOnSeedAndIndexAlone) {
  const std::vector<float> logits = some_logits(3);
  const Sampling a{.temperature = 1, .seed = 5}, b{.temperature = 1, .seed = 6};
  int differ = 0, repeat = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(draw(logits, a, i), draw(logits, a, i));
    differ += draw(logits, a, i) != draw(logits, b, i);
    repeat += draw(logits, a, i) == draw(logits, a, i + 1);
  }
  EXPECT_GT(differ, 100);
  EXPECT_LT(repeat, 100);
}

// A temperature near 0 is nearly greedy, a large one nearly uniform; neither overflows.
TEST(Sampler, ExtremeTemperatures) {
  const std::vector<float> logits = some_logits(4);
  const int32_t likeliest = draw(logits, {}, 0);
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(draw(logits, {.temperature = tiny, .seed = 1}, i), likeliest);
  }
  std::vector<int> counts(kVocabulary, 0);
  for (uint64_t i = 0; i < 4000; ++i) {
    ++counts[static_cast<size_t>(draw(logits, {.temperature = 1000, .seed = 1}, i))];
  }
  EXPECT_GT(*std::ranges::min_element(counts), 50);
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, infinity, -infinity}) {
    const std::vector<float> logits(kVocabulary, bad);
    for (const Sampling& sampling :
         {Sampling{}, Sampling{.temperature = 1}, Sampling{.temperature = 1, .top_k = 4},
          Sampling{.temperature = 1, .top_p = 0.5f}}) {
      try {
        draw(logits, sampling, 0);
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.status(), Status::corrupt_file);
      }
    }
  }
}

}  // namespace
}  // namespace tessera::engine
