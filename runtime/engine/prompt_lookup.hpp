// Drafts the next tokens of an answer from what the session says already: where its last tokens
// stood before, what followed them there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::engine {

// The text is the caller's and only grows; every call takes all of it. A token costs a bounded
// number of looks, however long the text is.
class PromptLookup {
 public:
  // Drafts of at most `longest` tokens in a text that will have at most `capacity` tokens.
  PromptLookup(std::span<const int32_t> text, size_t capacity, uint32_t longest);

  // Takes in the last token of the text.
  void push(std::span<const int32_t> text) noexcept;

  // What may follow the text, at most `room` tokens; often nothing.
  std::vector<int32_t> draft(std::span<const int32_t> text, size_t room) const;

  // Told of each draft that was tried, once the tokens that came of it are in the text. The next
  // draft is at most twice as long as what was accepted of this one, plus one. After drafts of
  // which nothing was accepted 1, 2, 4, ... 32 tokens come without one, and the next that is
  // accepted sets this back.
  void settle(std::span<const int32_t> text, size_t accepted) noexcept;

 private:
  // For the last n tokens, up to each place in the text, the place before where they may have
  // stood as well: chains of the places that share a bucket. A place is the count of tokens before
  // it; 0 ends a chain.
  struct Chains {
    uint32_t n = 0;
    std::vector<uint32_t> newest;    // of a bucket
    std::vector<uint32_t> previous;  // of a place
  };
  static size_t bucket(const Chains& chains, std::span<const int32_t> gram);
  static uint32_t best_place(const Chains& chains, std::span<const int32_t> text);

  Chains chains_[2];
  uint32_t longest_;
  size_t length_;           // of the next draft
  size_t resume_at_ = 0;    // tokens of text from which on there are drafts again
  uint32_t fruitless_ = 0;  // drafts in a row
};

}  // namespace tessera::engine
