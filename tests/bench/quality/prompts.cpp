#include "tests/bench/quality/prompts.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "backends/error.hpp"

namespace tessera::quality {

const char* const kAnchor =
    "<|im_start|>system\nYou are a helpful assistant. Answer the question using only the documents "
    "below. Keep the answer short.<|im_end|>\n<|im_start|>user\n";

namespace {

constexpr size_t kShortest = 2000;  // characters of a text
constexpr size_t kCharacters = 8;   // of a text a token, enough to fill a chunk

constexpr std::array kCities = {"Oslo",  "Lima",  "Cairo", "Kyoto", "Quito", "Riga",
                                "Dakar", "Turin", "Perth", "Sofia", "Accra", "Minsk"};
constexpr std::array kThings = {"maintenance code", "gate number",     "budget",
                                "room number",      "phone extension", "serial number"};
constexpr std::array kPeople = {"Anna Berg", "Tom Hale", "Mira Sand",
                                "Paul Voss", "Ines Roy", "Carl Dunn"};

struct Plan {
  std::vector<std::string> planted;  // a sentence a chunk
  std::string asked;
  std::string wanted;
  size_t place = 0;  // chunk of the fact that is asked for
};

template <typename List>
std::vector<std::string> some_of(const List& list, size_t count, std::mt19937_64& random) {
  std::vector<std::string> all(list.begin(), list.end());
  std::shuffle(all.begin(), all.end(), random);
  while (all.size() < count) all.push_back(all[all.size() % list.size()]);
  all.resize(count);
  return all;
}

std::string number(std::mt19937_64& random) {
  return std::to_string(1000 + random() % 9000);
}

std::string fact(const std::string& thing, const std::string& city, const std::string& value) {
  return " The " + thing + " of the " + city + " office is " + value + ".";
}

Plan facts(const PromptShape& shape, std::mt19937_64& random) {
  Plan plan;
  const std::vector<std::string> cities = some_of(kCities, shape.chunks, random);
  const size_t asked = random() % shape.chunks;
  for (size_t i = 0; i < shape.chunks; ++i) {
    const std::string thing = kThings[random() % kThings.size()], value = number(random);
    plan.planted.push_back(fact(thing, cities[i], value));
    if (i != asked) continue;
    plan.asked = "Question: What is the " + thing + " of the " + cities[i] + " office?";
    plan.wanted = value;
    plan.place = i;
  }
  return plan;
}

// The chunks of the two sentences that a question needs, the first one's before the second's.
std::pair<size_t, size_t> two_places(const PromptShape& shape, std::mt19937_64& random) {
  const size_t first = random() % (shape.chunks - 1);
  return {first, first + 1 + random() % (shape.chunks - 1 - first)};
}

Plan plan_of(Question question, const PromptShape& shape, std::mt19937_64& random) {
  Plan plan = facts(shape, random);
  switch (question) {
    case Question::fact:
      break;
    case Question::summary:
      plan.asked = "Summarise what these documents explain, in two sentences.";
      plan.wanted.clear();
      break;
    case Question::two_hop: {
      const auto [first, second] = two_places(shape, random);
      const std::string city = some_of(kCities, 1, random)[0], who = some_of(kPeople, 1, random)[0];
      plan.wanted = number(random);
      plan.planted[first] = " The keys of the " + city + " store are kept by " + who + ".";
      plan.planted[second] = " The desk of " + who + " is in room " + plan.wanted + ".";
      plan.asked = "Question: In which room is the desk of the person who keeps the keys of the " +
                   city + " store?";
      break;
    }
    case Question::override_: {
      const auto [first, second] = two_places(shape, random);
      const std::string city = some_of(kCities, 1, random)[0];
      const std::string thing = kThings[random() % kThings.size()];
      plan.wanted = number(random);
      plan.planted[first] = fact(thing, city, number(random));
      plan.planted[second] = " Correction: the " + thing + " of the " + city +
                             " office was changed to " + plan.wanted + ".";
      plan.asked = "Question: What is the " + thing + " of the " + city + " office now?";
      break;
    }
    case Question::order: {
      const std::vector<std::string> cities = some_of(kCities, shape.chunks, random);
      for (size_t i = 0; i < cities.size(); ++i) {
        plan.planted[i] = " This document was written in " + cities[i] + ".";
      }
      plan.asked = "Question: In which city was the first of the documents written?";
      plan.wanted = cities[0];
      break;
    }
    case Question::twice:
      break;  // the chunk of the fact comes again
  }
  return plan;
}

Tokens chunk_of(const std::string& text, const std::string& planted, uint32_t size,
                const Encode& encode, std::mt19937_64& random) {
  const size_t wanted = size * kCharacters;
  size_t at = text.size() > wanted ? random() % (text.size() - wanted) : 0;
  while (at > 0 && (text[at] & 0xC0) == 0x80) --at;  // whole characters
  size_t end = std::min(text.size(), at + wanted);
  while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
  const Tokens sentence = encode(planted, false), line = encode("\n", false);
  Tokens body = encode("Document:\n" + text.substr(at, end - at), false);
  const size_t room = size - sentence.size() - line.size();
  if (size < sentence.size() + line.size() + 8 || body.size() < room) {
    fail(Status::invalid_argument, "a chunk of " + std::to_string(size) +
                                       " tokens cannot be cut from a text of " +
                                       std::to_string(text.size()) + " bytes");
  }
  body.resize(room);
  const auto cut = static_cast<ptrdiff_t>(room / 4 + random() % (room / 2 + 1));
  body.insert(body.begin() + cut, sentence.begin(), sentence.end());
  body.insert(body.end(), line.begin(), line.end());
  return body;
}

}  // namespace

const char* name_of(Question question) {
  constexpr const char* kNames[] = {"fact", "summary", "two_hop", "override", "order", "twice"};
  return kNames[static_cast<size_t>(question)];
}

std::vector<std::string> read_texts(const std::string& folder, size_t least) {
  namespace fs = std::filesystem;
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const fs::path extension = it->path().extension();
    if (it->is_regular_file() && (extension == ".txt" || extension == ".md")) {
      paths.push_back(it->path());
    }
  }
  if (error) fail(Status::not_found, folder + ": " + error.message());
  std::ranges::sort(paths);
  std::vector<std::string> texts;
  for (const fs::path& path : paths) {
    std::ostringstream contents;
    contents << std::ifstream(path, std::ios::binary).rdbuf();
    std::string text = std::move(contents).str();
    if (text.size() > kShortest) texts.push_back(std::move(text));
  }
  if (texts.size() < least) {
    fail(Status::invalid_argument,
         folder + ": holds " + std::to_string(texts.size()) + " texts (.txt, .md) of more than " +
             std::to_string(kShortest) + " characters; " + std::to_string(least) + " are needed");
  }
  return texts;
}

Prompt make_prompt(const std::vector<std::string>& texts, const PromptShape& shape,
                   Question question, const Encode& encode, std::mt19937_64 random) {
  std::vector<size_t> order;
  const size_t needed = size_t{shape.chunk_tokens} * kCharacters;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() >= needed) order.push_back(i);
  }
  if (order.size() < shape.chunks) {
    fail(Status::invalid_argument, "chunks of " + std::to_string(shape.chunk_tokens) +
                                       " tokens need texts of " + std::to_string(needed) +
                                       " bytes; there are " + std::to_string(order.size()));
  }
  std::shuffle(order.begin(), order.end(), random);
  std::mt19937_64 cuts(random());
  const Plan plan = plan_of(question, shape, random);
  Prompt prompt;
  for (size_t i = 0; i < shape.chunks; ++i) {
    prompt.chunks.push_back(
        chunk_of(texts[order[i]], plan.planted[i], shape.chunk_tokens, encode, cuts));
  }
  if (question == Question::twice) {
    Tokens& other = plan.place > 0 ? prompt.chunks.front() : prompt.chunks.back();
    other = prompt.chunks[plan.place];
  }
  prompt.question = encode("\n" + plan.asked + "<|im_end|>\n<|im_start|>assistant\n", true);
  prompt.wanted = plan.wanted;
  return prompt;
}

}  // namespace tessera::quality
