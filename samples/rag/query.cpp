#include "samples/rag/query.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>

namespace rag {
namespace {

// Sorted, for binary search.
constexpr std::array<std::string_view, 83> kStopWords = {
    "a",   "about", "am",   "an",    "and",    "any",    "are",   "as",    "at",   "be",    "been",
    "but", "by",    "can",  "could", "did",    "do",     "does",  "each",  "for",  "from",  "had",
    "has", "have",  "he",   "her",   "his",    "how",    "i",     "if",    "in",   "into",  "is",
    "it",  "its",   "may",  "me",    "must",   "my",     "no",    "not",   "of",   "on",    "or",
    "our", "say",   "says", "shall", "she",    "should", "so",    "some",  "tell", "than",  "that",
    "the", "their", "them", "there", "these",  "they",   "this",  "those", "to",   "under", "us",
    "was", "we",    "were", "what",  "what's", "when",   "where", "which", "who",  "whom",  "whose",
    "why", "will",  "with", "would", "you",    "your"};

static_assert(std::ranges::is_sorted(kStopWords));

char32_t next_character(std::string_view text, std::size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = length == 1 ? lead : lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length && at + i < text.size(); ++i)
    value = value << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
  at = std::min(at + length, text.size());
  return value;
}

bool is_cjk(char32_t c) {
  return (c >= 0x3040 && c <= 0x30FF) ||  // Hiragana, Katakana
         (c >= 0x3400 && c <= 0x9FFF) ||  // CJK ideographs
         (c >= 0xAC00 && c <= 0xD7A3) ||  // Hangul syllables
         (c >= 0xF900 && c <= 0xFAFF) ||  // compatibility ideographs
         (c >= 0x20000 && c <= 0x3FFFF);  // ideographs of the supplementary planes
}

bool is_word_byte(char c) {
  return static_cast<unsigned char>(c) >= 0x80 || std::isalnum(static_cast<unsigned char>(c));
}

std::string lower_ascii(std::string_view word) {
  std::string lower(word);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

bool is_stop_word(const std::string& word) {
  return std::binary_search(kStopWords.begin(), kStopWords.end(), std::string_view(word));
}

void append_quoted(std::string_view word, std::string& expression) {
  if (!expression.empty()) expression += " OR ";
  expression += '"';
  for (const char c : word) {
    expression += c;
    if (c == '"') expression += c;
  }
  expression += '"';
}

// The text with a space in place of each CJK character.
std::string without_cjk(std::string_view text) {
  std::string rest;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (is_cjk(next_character(text, at)))
      rest += ' ';
    else
      rest += text.substr(begin, at - begin);
  }
  return rest;
}

std::vector<std::string> split_at_space(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  std::vector<std::string> parts;
  for (std::size_t at = 0; (at = text.find_first_not_of(kSpace, at)) != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    parts.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

}  // namespace

std::vector<std::string> query_words(std::string_view question) {
  std::vector<std::string> all, kept;
  for (const std::string& part : split_at_space(without_cjk(question))) {
    const auto begin = std::find_if(part.begin(), part.end(), is_word_byte);
    const auto end = std::find_if(part.rbegin(), part.rend(), is_word_byte).base();
    if (begin >= end) continue;
    std::string word = lower_ascii({begin, end});
    if (std::find(all.begin(), all.end(), word) != all.end()) continue;
    if (!is_stop_word(word)) kept.push_back(word);
    all.push_back(std::move(word));
  }
  return kept.empty() ? all : kept;
}

std::string cjk_bigrams(std::string_view text) {
  std::string bigrams;
  const auto append = [&](std::string_view characters) {
    if (!bigrams.empty()) bigrams += ' ';
    bigrams += characters;
  };
  std::size_t previous = std::string_view::npos;  // begin of the character before, if it is CJK
  bool paired = false;                            // that character is already in a pair
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t begin = at;
    const bool cjk = at < text.size() && is_cjk(next_character(text, at));
    if (previous != std::string_view::npos && (cjk || !paired))
      append(text.substr(previous, (cjk ? at : begin) - previous));
    paired = cjk && previous != std::string_view::npos;
    previous = cjk ? begin : std::string_view::npos;
    if (begin == text.size()) break;
  }
  return bigrams;
}

std::string match_expression(std::string_view question) {
  std::string expression;
  for (const std::string& word : query_words(question)) append_quoted(word, expression);
  for (const std::string& pair : split_at_space(cjk_bigrams(question)))
    append_quoted(pair, expression);
  return expression;
}

}  // namespace rag
