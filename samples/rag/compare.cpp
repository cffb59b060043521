#include "samples/rag/compare.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>

namespace rag {
namespace {

constexpr int kLabel = 36, kColumn = 12;  // characters

Round ask(Asker& asker, const std::string& question, const std::vector<Hit>& passages,
          const std::vector<std::size_t>& order, common::Interrupt& interrupt) {
  Round round;
  std::vector<Hit> hits;
  for (const std::size_t at : order) hits.push_back(passages[at]);
  for (auto at = order.rbegin(); at != order.rend(); ++at) {  // as they stand in the prompt
    if (!round.order.empty()) round.order += ' ';
    round.order += std::to_string(*at + 1);
  }
  round.answer = asker.ask(question, hits, interrupt, [](std::string_view) {});
  round.report = asker.report();
  return round;
}

// Another order: the best passage keeps its place next to the question where there are enough
// others.
std::vector<std::size_t> another(std::vector<std::size_t> order) {
  std::reverse(order.begin() + (order.size() > 2 ? 1 : 0), order.end());
  return order;
}

std::string line(const std::string& label, const std::vector<Round>& rounds,
                 const std::function<std::string(const Round&)>& value) {
  std::string text = label;
  text.resize(kLabel, ' ');
  for (const Round& round : rounds) {
    const std::string cell = value(round);
    text += std::string(cell.size() < kColumn ? kColumn - cell.size() : 1, ' ') + cell;
  }
  return text + "\n";
}

std::string milliseconds(std::uint64_t us) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(us) / 1e3);
  return text;
}

}  // namespace

std::vector<Round> compare(const tsr::Model& model, const common::ModelOptions& model_options,
                           const AskerOptions& options, const std::string& question,
                           const std::vector<Hit>& passages) {
  common::Interrupt interrupt;
  std::vector<Round> rounds;
  const auto keep = [&](const char* name, const char* what, Round round) {
    round.name = name;
    round.what = what;
    rounds.push_back(std::move(round));
    return rounds.back().answer.finish != TSR_FINISH_CANCELLED;
  };
  std::vector<std::size_t> order(passages.size());
  std::iota(order.begin(), order.end(), 0);
  Asker asker(model, model_options, options);
  if (!keep("cold", "nothing is there yet: the passages are computed on the way, and kept",
            ask(asker, question, passages, order, interrupt))) {
    return rounds;
  }
  keep("warm", "the passages are there, in another order: what is left is repair and the question",
       ask(asker, question, passages, another(order), interrupt));
  return rounds;
}

std::string format_rounds(const std::vector<Round>& rounds) {
  std::string text;
  for (const Round& round : rounds) {
    std::string name = round.name;
    name.resize(8, ' ');
    text += name + round.what + "\n";
  }
  text += "\n" + line("", rounds, [](const Round& r) { return r.name; });
  text += line("passages, in this order", rounds, [](const Round& r) { return r.order; });
  struct Row {
    const char* label;
    std::uint64_t tsr_report::*field;
    bool time;
  };
  for (const Row& row : {
           Row{"prompt tokens reused, exact", &tsr_report::tokens_exact, false},
           Row{"              reused, approximate", &tsr_report::tokens_approximate, false},
           Row{"              repaired", &tsr_report::tokens_repaired, false},
           Row{"              computed", &tsr_report::tokens_computed, false},
           Row{"time to the first token", &tsr_report::first_token_us, true},
           Row{"  until computing begins", &tsr_report::lookup_us, true},
           Row{"    of that, reading from disk", &tsr_report::load_us, true},
           Row{"  computing", &tsr_report::prompt_us, true},
           Row{"    of that, repair", &tsr_report::repair_us, true},
       }) {
    text += line(row.label, rounds, [&](const Round& r) {
      const std::uint64_t value = r.report.*row.field;
      return row.time ? milliseconds(value) : std::to_string(value);
    });
  }
  return text;
}

}  // namespace rag
