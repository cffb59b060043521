// Finds special tokens in text: the leftmost, and of those that begin there the longest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

// A sorted list used as a trie: the texts with a common beginning are one range, which narrows
// with every character. Immutable, safe from any thread.
class SpecialTokens {
 public:
  struct Token {
    std::string text;
    int32_t id;
  };
  struct Match {
    size_t begin;
    size_t end;
    int32_t id;
  };

  SpecialTokens() = default;
  // Empty texts are ignored; of equal texts the one with the highest id counts.
  explicit SpecialTokens(std::vector<Token> tokens);

  // The first token in `text` at or after `from`.
  std::optional<Match> next(std::string_view text, size_t from) const;
  // The token that is exactly `text`.
  std::optional<int32_t> find(std::string_view text) const;

 private:
  std::optional<Match> match_at(std::string_view text, size_t begin) const;

  std::vector<Token> tokens_;  // sorted by text, bytes as unsigned
  std::array<bool, 256> begins_{};
};

}  // namespace tessera::text
