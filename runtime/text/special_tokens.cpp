#include "runtime/text/special_tokens.hpp"

#include <algorithm>
#include <utility>

namespace tessera::text {

SpecialTokens::SpecialTokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const Token& token) { return token.text.empty(); });
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) {
    return a.text != b.text ? a.text < b.text : a.id > b.id;
  });
  const auto same = [](const Token& a, const Token& b) { return a.text == b.text; };
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  tokens_.shrink_to_fit();
  for (const Token& token : tokens_) begins_[static_cast<uint8_t>(token.text[0])] = true;
}

std::optional<SpecialTokens::Match> SpecialTokens::next(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    if (const auto match = match_at(text, begin)) return match;
  }
  return std::nullopt;
}

std::optional<int32_t> SpecialTokens::find(std::string_view text) const {
  const auto before = [](const Token& a, std::string_view b) {
    return std::string_view(a.text) < b;
  };
  const auto at = std::lower_bound(tokens_.begin(), tokens_.end(), text, before);
  if (at == tokens_.end() || at->text != text) return std::nullopt;
  return at->id;
}

std::optional<SpecialTokens::Match> SpecialTokens::match_at(std::string_view text,
                                                            size_t begin) const {
  std::optional<Match> longest;
  auto first = tokens_.begin();
  auto last = tokens_.end();
  for (size_t depth = 0; begin + depth < text.size(); ++depth) {
    // All of [first, last) begin with text[begin, begin + depth) and are longer than that.
    const auto wanted = static_cast<uint8_t>(text[begin + depth]);
    const auto at_depth = [depth](const Token& token) {
      return static_cast<uint8_t>(token.text[depth]);
    };
    first = std::partition_point(first, last, [&](const Token& t) { return at_depth(t) < wanted; });
    last = std::partition_point(first, last, [&](const Token& t) { return at_depth(t) == wanted; });
    if (first == last) break;
    if (first->text.size() == depth + 1) {
      longest = Match{begin, begin + depth + 1, first->id};
      if (++first == last) break;
    }
  }
  return longest;
}

}  // namespace tessera::text
