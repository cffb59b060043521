// The window of penalties against a count of the window each time.
#include "runtime/engine/penalties.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/fuzz/random.hpp"

namespace tessera::engine {
namespace {

constexpr int32_t kTokens = 12;

// token -> (penalty, subtract)
using Adjustments = std::map<int32_t, std::pair<float, float>>;

Adjustments naive(const PenaltyOptions& o, const std::vector<int32_t>& text) {
  Adjustments all;
  for (int32_t token = 0; token < kTokens; ++token) {
    const size_t from = text.size() - std::min<size_t>(text.size(), o.window);
    const auto count = std::count(text.begin() + static_cast<ptrdiff_t>(from), text.end(), token);
    const auto bias =
        std::ranges::find_if(o.biases, [&](const LogitBias& b) { return b.token == token; });
    float subtract = bias == o.biases.end() ? 0.0f : -bias->bias;
    float penalty = 1;
    if (count > 0) {
      penalty = o.repetition;
      subtract += static_cast<float>(count) * o.frequency + o.presence;
    }
    if (penalty != 1 || subtract != 0) all[token] = {penalty, subtract};
  }
  return all;
}

Adjustments actual(const Penalties& penalties) {
  std::vector<LogitAdjustment> list(3);  // what others added before
  penalties.append_to(list);
  Adjustments all;
  for (size_t i = 3; i < list.size(); ++i) {
    EXPECT_FALSE(all.contains(list[i].token)) << "token " << list[i].token << " twice";
    if (list[i].penalty == 1 && list[i].subtract == 0) continue;
    all[list[i].token] = {list[i].penalty, list[i].subtract};
  }
  return all;
}

TEST(Penalties, FollowTheWindowThereAndBack) {
  for (const uint32_t window : {1u, 2u, 7u, 64u, UINT32_MAX}) {
    for (const size_t begun : {0u, 1u, 6u, 30u}) {
      test::Random random(window + begun);
      PenaltyOptions options;
      options.repetition = 1.25f;
      options.frequency = 0.5f;
      options.presence = -0.75f;
      options.window = window;
      options.biases = {{2, 3}, {5, -INFINITY}, {7, -1}};
      std::vector<int32_t> text;
      const auto token = [&] { return static_cast<int32_t>(random.below(kTokens)); };
      while (text.size() < begun) text.push_back(token());
      Penalties penalties(options, text);
      EXPECT_EQ(actual(penalties), naive(options, text));
      for (int i = 0; i < 200; ++i) {
        if (text.size() > begun && random.one_in(3)) {
          penalties.pop(text);
          text.pop_back();
        } else {
          text.push_back(token());
          penalties.push(text);
        }
        ASSERT_EQ(actual(penalties), naive(options, text)) << "move " << i;
      }
    }
  }
}

TEST(Penalties, BiasesAloneLookAtNoText) {
  PenaltyOptions options;
  options.biases = {{4, 2.5f}};
  std::vector<int32_t> text = {1, 2, 3, 4};
  Penalties penalties(options, text);
  text.push_back(4);
  penalties.push(text);
  EXPECT_EQ(actual(penalties), (Adjustments{{4, {1.0f, -2.5f}}}));
}

}  // namespace
}  // namespace tessera::engine
