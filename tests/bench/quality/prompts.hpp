// Prompts of document chunks with planted facts, and questions about them.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace tessera::quality {

using Tokens = std::vector<int32_t>;
using Encode = std::function<Tokens(const std::string& text, bool special)>;

enum class Question : uint8_t { fact, summary, two_hop, override_, order, twice };
inline constexpr Question kQuestions[] = {Question::fact,      Question::summary, Question::two_hop,
                                          Question::override_, Question::order,   Question::twice};
const char* name_of(Question question);

// The contents of all .txt and .md files below `folder` that have more than 2,000 characters, in
// the order of their paths. Throws tessera::Error where there are fewer than `least`.
std::vector<std::string> read_texts(const std::string& folder, size_t least);

struct Prompt {
  std::vector<Tokens> chunks;  // each of just so many tokens
  Tokens question;             // up to the opening of the answer
  std::string wanted;          // what a right answer holds; empty: nothing to find
};

struct PromptShape {
  uint32_t chunks = 4;
  uint32_t chunk_tokens = 512;
};

// The system message and the opening of the user's turn, with special tokens.
extern const char* const kAnchor;

// `random` decides everything; the passages come from different texts. Fact and summary prompts
// of the same random state have the same chunks.
Prompt make_prompt(const std::vector<std::string>& texts, const PromptShape& shape,
                   Question question, const Encode& encode, std::mt19937_64 random);

}  // namespace tessera::quality
