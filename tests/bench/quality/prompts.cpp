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
constexpr size_t kLeast = 8;        // tokens of a text in a chunk, beside the planted sentence
constexpr int kAttempts = 20;

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
std::vector<std::string> shuffled(const List& list, std::mt19937_64& random) {
  std::vector<std::string> all(list.begin(), list.end());
  std::shuffle(all.begin(), all.end(), random);
  return all;
}

std::string number(std::mt19937_64& random) {
  return std::to_string(1000 + random() % 9000);
}

std::string fact(const std::string& thing, const std::string& city, const std::string& value) {
  return " The " + thing + " of the " + city + " office is " + value + ".";
}

// What a fact is about. No two of the first kCities.size() * kThings.size() are the same, and none
// of the first kCities.size() share a city.
struct Subject {
  std::string thing, city;
};

std::vector<Subject> subjects(size_t count, std::mt19937_64& random) {
  const std::vector<std::string> cities = shuffled(kCities, random);
  std::vector<std::vector<std::string>> things;
  for (size_t i = 0; i < cities.size(); ++i) things.push_back(shuffled(kThings, random));
  std::vector<Subject> all;
  for (size_t i = 0; i < count; ++i) {
    const size_t city = i % cities.size();
    all.push_back({things[city][i / cities.size()], cities[city]});
  }
  return all;
}

Plan facts(const PromptShape& shape, const std::vector<Subject>& subjects,
           std::mt19937_64& random) {
  Plan plan;
  plan.place = random() % shape.chunks;
  for (size_t i = 0; i < shape.chunks; ++i) {
    const std::string value = number(random);
    plan.planted.push_back(fact(subjects[i].thing, subjects[i].city, value));
    if (i == plan.place) plan.wanted = value;
  }
  const Subject& asked = subjects[plan.place];
  plan.asked = "Question: What is the " + asked.thing + " of the " + asked.city + " office?";
  return plan;
}

// The chunks of the two sentences that a question needs, the first one's before the second's.
std::pair<size_t, size_t> two_places(const PromptShape& shape, std::mt19937_64& random) {
  const size_t first = random() % (shape.chunks - 1);
  return {first, first + 1 + random() % (shape.chunks - 1 - first)};
}

Plan plan_of(Question question, const PromptShape& shape, std::mt19937_64& random) {
  const std::vector<Subject> about = subjects(shape.chunks + 1, random);
  const Subject& other = about.back();  // of which no chunk has a fact yet
  Plan plan = facts(shape, about, random);
  switch (question) {
    case Question::fact:
      break;
    case Question::summary:
      plan.asked = "Summarise what these documents explain, in two sentences.";
      plan.wanted.clear();
      break;
    case Question::two_hop: {
      const auto [first, second] = two_places(shape, random);
      const std::string who = shuffled(kPeople, random)[0];
      plan.wanted = number(random);
      plan.planted[first] = " The keys of the " + other.city + " store are kept by " + who + ".";
      plan.planted[second] = " The desk of " + who + " is in room " + plan.wanted + ".";
      plan.asked = "Question: In which room is the desk of the person who keeps the keys of the " +
                   other.city + " store?";
      break;
    }
    case Question::override_: {
      const auto [first, second] = two_places(shape, random);
      plan.wanted = number(random);
      plan.planted[first] = fact(other.thing, other.city, number(random));
      plan.planted[second] = " Correction: the " + other.thing + " of the " + other.city +
                             " office was changed to " + plan.wanted + ".";
      plan.asked =
          "Question: What is the " + other.thing + " of the " + other.city + " office now?";
      break;
    }
    case Question::order: {
      for (size_t i = 0; i < shape.chunks; ++i) {
        plan.planted[i] = " This document was written in " + about[i].city + ".";
      }
      plan.asked = "Question: In which city was the first of the documents written?";
      plan.wanted = about[0].city;
      break;
    }
    case Question::twice:
      break;  // the chunk of the fact comes again
  }
  return plan;
}

// A passage from anywhere in the text, whole characters.
std::string passage(const std::string& text, size_t bytes, std::mt19937_64& random) {
  const auto inside = [&](size_t at) { return at < text.size() && (text[at] & 0xC0) == 0x80; };
  size_t at = text.size() > bytes ? random() % (text.size() - bytes) : 0;
  while (at > 0 && inside(at)) --at;
  size_t end = std::min(text.size(), at + bytes);
  while (inside(end)) ++end;
  return text.substr(at, end - at);
}

Tokens chunk_of(const std::string& text, const std::string& planted, uint32_t size,
                const Encode& encode, std::mt19937_64& random) {
  const Tokens sentence = encode(planted, false), line = encode("\n", false);
  const size_t around = sentence.size() + line.size();
  // A passage of long words, such as the lines of a table, may have too few tokens.
  for (int attempt = 0; attempt < kAttempts && size > around + kLeast; ++attempt) {
    Tokens body = encode("Document:\n" + passage(text, size * kCharacters, random), false);
    const size_t room = size - around;
    if (body.size() < room) continue;
    body.resize(room);
    const auto cut = static_cast<ptrdiff_t>(room / 4 + random() % (room / 2 + 1));
    body.insert(body.begin() + cut, sentence.begin(), sentence.end());
    body.insert(body.end(), line.begin(), line.end());
    return body;
  }
  fail(Status::invalid_argument, "no chunk of " + std::to_string(size) +
                                     " tokens can be cut from a text of " +
                                     std::to_string(text.size()) + " bytes that begins '" +
                                     text.substr(0, text.find('\n')) + "'");
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
