#include "tests/bench/sharing/bench.hpp"

namespace sharing {
namespace {

const char* const kWords[] = {
    " the",  " of",   " and",   " to",   " in",    " a",     " is",    " that", " for",  " it",
    " as",   " was",  " with",  " be",   " by",    " on",    " not",   " he",   " this", " are",
    " or",   " his",  " from",  " at",   " which", " but",   " have",  " an",   " had",  " they",
    " you",  " were", " there", " one",  " all",   " we",    " can",   " her",  " has",  " will",
    " been", " if",   " more",  " when", " who",   " time",  " new",   " some", " may",  " other",
    " into", " than", " its",   " only", " most",  " first", " other", " work", " made", " world"};

}  // namespace

Counts quick_counts() {
  Counts counts;
  counts.rounds = 2;
  counts.chunks = 3;
  counts.chunk_tokens = 32;
  counts.workloads = 1;
  counts.sessions = {1, 3};
  return counts;
}

Texts::Texts(const tsr::Model& model, std::uint64_t seed) : random_(seed) {
  for (const char* word : kWords) {
    if (model.tokenize(word).size() == 1) words_.emplace_back(word);
  }
  if (words_.size() >= 20) return;
  words_ = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
}

std::string Texts::text(std::uint32_t tokens) {
  std::string text;
  for (std::uint32_t i = 0; i < tokens; ++i) text += words_[random_() % words_.size()];
  return text;
}

}  // namespace sharing
