// From a question in plain words to an FTS5 expression that cannot be a syntax error.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rag {

// Words of a question: cut at white space, punctuation taken off both ends, Chinese and Japanese
// left out. English stop words and repetitions are dropped, unless nothing else is there.
std::vector<std::string> query_words(std::string_view question);

// Pairs of neighbouring characters of each Chinese, Japanese or Korean run, one character of a run
// of one, separated by spaces. FTS5's unicode61 takes such a run as one word, and trigram misses
// the many words of two characters; so the pairs are indexed in a column of their own.
std::string cjk_bigrams(std::string_view text);

// Every word quoted, inner quotes doubled, joined with OR: "what" OR "c++". Bigrams likewise. Empty
// when there is nothing to search for.
std::string match_expression(std::string_view question);

}  // namespace rag
