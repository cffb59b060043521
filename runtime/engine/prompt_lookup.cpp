#include "runtime/engine/prompt_lookup.hpp"

#include <algorithm>
#include <bit>

namespace tessera::engine {
namespace {

constexpr uint32_t kGrams[] = {3, 2};      // tried in this order
constexpr int kPlaces = 8;                 // looked at, the last ones first
constexpr size_t kLongestMatch = 16;       // more agreement than this does not matter
constexpr size_t kFirstLength = 3;         // of the first draft
constexpr uint32_t kLongestPauseLog2 = 5;  // 32 tokens

// How many tokens in front of `place` are those at the end of the text, up to kLongestMatch.
size_t agreement(std::span<const int32_t> text, size_t place) {
  const size_t most = std::min(place, kLongestMatch);
  size_t n = 0;
  while (n < most && text[place - 1 - n] == text[text.size() - 1 - n]) ++n;
  return n;
}

}  // namespace

PromptLookup::PromptLookup(std::span<const int32_t> text, size_t capacity, uint32_t longest)
    : longest_(longest), length_(std::min<size_t>(longest, kFirstLength)) {
  const size_t buckets = std::bit_ceil(std::max<size_t>(capacity, 2));
  for (size_t i = 0; i < std::size(kGrams); ++i) {
    chains_[i].n = kGrams[i];
    chains_[i].newest.resize(buckets);
    chains_[i].previous.resize(capacity + 1);
  }
  for (size_t size = 1; size <= text.size(); ++size) push(text.first(size));
}

size_t PromptLookup::bucket(const Chains& chains, std::span<const int32_t> gram) {
  uint64_t hash = 0;
  for (const int32_t token : gram) {
    hash = (hash + static_cast<uint64_t>(token) + 1) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return hash & (chains.newest.size() - 1);
}

void PromptLookup::push(std::span<const int32_t> text) noexcept {
  for (Chains& chains : chains_) {
    if (text.size() < chains.n || text.size() >= chains.previous.size()) continue;
    uint32_t& newest = chains.newest[bucket(chains, text.last(chains.n))];
    chains.previous[text.size()] = newest;
    newest = static_cast<uint32_t>(text.size());
  }
}

// The place with the longest agreement, of several the last; 0 where the last n tokens are new.
uint32_t PromptLookup::best_place(const Chains& chains, std::span<const int32_t> text) {
  if (text.size() < chains.n || text.size() >= chains.previous.size()) return 0;
  uint32_t best = 0;
  size_t longest = chains.n - 1;
  uint32_t place = chains.previous[text.size()];
  for (int i = 0; i < kPlaces && place != 0; ++i, place = chains.previous[place]) {
    const size_t n = agreement(text, place);
    if (n <= longest) continue;
    best = place;
    longest = n;
  }
  return best;
}

std::vector<int32_t> PromptLookup::draft(std::span<const int32_t> text, size_t room) const {
  std::vector<int32_t> draft;
  const size_t length = std::min(length_, room);
  if (length == 0 || text.size() < resume_at_) return draft;
  for (const Chains& chains : chains_) {
    const uint32_t place = best_place(chains, text);
    if (place == 0) continue;
    draft.reserve(length);
    for (size_t at = place; draft.size() < length; ++at) {  // may run on into the draft itself
      draft.push_back(at < text.size() ? text[at] : draft[at - text.size()]);
    }
    break;
  }
  return draft;
}

void PromptLookup::settle(std::span<const int32_t> text, size_t accepted) noexcept {
  length_ = std::min<size_t>(longest_, 2 * accepted + 1);
  if (accepted > 0) {
    fruitless_ = 0;
    return;
  }
  resume_at_ = text.size() + (size_t{1} << std::min(fruitless_, kLongestPauseLog2));
  ++fruitless_;
}

}  // namespace tessera::engine
