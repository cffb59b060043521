// Cuts a text into passages of a bounded number of tokens, at the ends of paragraphs where
// possible, else of lines, sentences, words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace rag {

struct Passage {
  std::size_t begin{};     // bytes into the text
  std::size_t end{};       // one behind the last byte
  std::uint32_t line{};    // of the first byte, from 1
  std::uint32_t tokens{};  // sum over its lines
};

// Number of tokens of a piece of text.
using TokenCounter = std::function<std::size_t(std::string_view)>;

// Passages in order, without overlap, of at most `max_tokens` tokens as counted line by line. Every
// byte of `text` that is not white space between passages is in exactly one of them, and no UTF-8
// character is cut. `text` is valid UTF-8; max_tokens >= 1. A single character that has more tokens
// than that is a passage of its own.
std::vector<Passage> split_passages(std::string_view text, std::size_t max_tokens,
                                    const TokenCounter& count);

}  // namespace rag
