#include "runtime/engine/penalties.hpp"

#include <algorithm>

namespace tessera::engine {

Penalties::Penalties(const PenaltyOptions& options, std::span<const int32_t> text)
    : repetition_(options.repetition),
      frequency_(options.frequency),
      presence_(options.presence),
      window_(options.looks_back() ? options.window : 0) {
  for (const LogitBias& b : options.biases) entries_[b.token].bias = b.bias;
  for (const int32_t token : text.last(std::min<size_t>(window_, text.size()))) {
    ++entries_[token].count;
  }
}

void Penalties::push(std::span<const int32_t> text) {
  if (window_ == 0) return;
  ++entries_[text.back()].count;
  // The entry of a token that leaves stays: `pop` must not allocate.
  if (text.size() > window_) --entries_.find(text[text.size() - 1 - window_])->second.count;
}

void Penalties::pop(std::span<const int32_t> text) noexcept {
  if (window_ == 0) return;
  if (text.size() > window_) ++entries_.find(text[text.size() - 1 - window_])->second.count;
  --entries_.find(text.back())->second.count;
}

void Penalties::append_to(std::vector<LogitAdjustment>& adjustments) const {
  for (const auto& [token, entry] : entries_) {
    if (entry.count == 0 && entry.bias == 0) continue;
    LogitAdjustment a;
    a.token = token;
    a.subtract = -entry.bias;
    if (entry.count > 0) {
      a.penalty = repetition_;
      a.subtract += static_cast<float>(entry.count) * frequency_ + presence_;
    }
    adjustments.push_back(a);
  }
}

}  // namespace tessera::engine
