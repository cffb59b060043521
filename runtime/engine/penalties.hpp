// What is taken from the logits of tokens that were there already, and what biases add.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "backends/step.hpp"

namespace tessera::engine {

struct LogitBias {
  int32_t token = 0;
  float bias = 0;  // finite, or -infinity: banned
};

struct PenaltyOptions {
  float repetition = 1;  // 1: off
  float frequency = 0;   // 0: off
  float presence = 0;    // 0: off
  uint32_t window = 64;  // tokens
  std::vector<LogitBias> biases;

  bool looks_back() const { return repetition != 1 || frequency != 0 || presence != 0; }
};

// The adjustments of one row: those of the tokens in a window that moves along a text, and biases.
// The text is the caller's; push and pop take it with the token that comes or goes at its end.
class Penalties {
 public:
  Penalties(const PenaltyOptions& options, std::span<const int32_t> text);

  // For the last token of the text. If it throws, nothing changed.
  void push(std::span<const int32_t> text);
  // Takes the last push back.
  void pop(std::span<const int32_t> text) noexcept;

  // One for each token that is concerned, in no order.
  void append_to(std::vector<LogitAdjustment>& adjustments) const;

 private:
  struct Entry {
    uint32_t count = 0;  // in the window
    float bias = 0;
  };

  float repetition_, frequency_, presence_;
  uint32_t window_;  // 0: nothing looks back
  std::unordered_map<int32_t, Entry> entries_;
};

}  // namespace tessera::engine
