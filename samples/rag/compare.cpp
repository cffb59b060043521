#include "samples/rag/compare.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>

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

std::string count(std::uint64_t tokens) {
  return std::to_string(tokens);
}

std::string mebibytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string milliseconds(std::uint64_t us) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(us) / 1e3);
  return text;
}

// An empty folder beside `path`, while this exists.
class FolderBeside {
 public:
  explicit FolderBeside(const std::string& path) : path_(path + ".compare-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr)
      throw std::filesystem::filesystem_error("a folder cannot be made", path_,
                                              {errno, std::generic_category()});
  }
  ~FolderBeside() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FolderBeside(const FolderBeside&) = delete;
  FolderBeside& operator=(const FolderBeside&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

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
  AskerOptions own = options;
  std::optional<FolderBeside> cache;
  if (!options.cache.empty()) own.cache = cache.emplace(options.cache).path();
  auto asker = std::make_unique<Asker>(model, model_options, own);
  if (!keep("cold", "nothing is there yet: the passages are computed on the way, and kept",
            ask(*asker, question, passages, order, interrupt)) ||
      !keep("warm",
            "the passages are there, in another order: what is left is repair and the question",
            ask(*asker, question, passages, another(order), interrupt)) ||
      !cache) {
    return rounds;
  }
  asker->flush();
  asker = nullptr;
  asker = std::make_unique<Asker>(model, model_options, own);
  keep("restart", "memory is empty, as in a new program: the passages are read from disk",
       ask(*asker, question, passages, another(order), interrupt));
  return rounds;
}

std::string format_rounds(const std::vector<Round>& rounds) {
  std::string text;
  for (const Round& round : rounds) {
    std::string name = round.name;
    name.resize(9, ' ');
    text += name + round.what + "\n";
  }
  text += "\n" + line("", rounds, [](const Round& r) { return r.name; });
  text += line("passages, in this order", rounds, [](const Round& r) { return r.order; });
  struct Row {
    const char* label;
    std::uint64_t tsr_report::*field;
    std::string (*unit)(std::uint64_t);
  };
  for (const Row& row : {
           Row{"prompt tokens reused, exact", &tsr_report::tokens_exact, count},
           Row{"              reused, approximate", &tsr_report::tokens_approximate, count},
           Row{"              repaired", &tsr_report::tokens_repaired, count},
           Row{"              computed", &tsr_report::tokens_computed, count},
           Row{"KV in pages that others may use", &tsr_report::bytes_shared, mebibytes},
           Row{"   in pages of its own", &tsr_report::bytes_private, mebibytes},
           Row{"time to the first token", &tsr_report::first_token_us, milliseconds},
           Row{"  until computing begins", &tsr_report::lookup_us, milliseconds},
           Row{"  reading from disk", &tsr_report::load_us, milliseconds},
           Row{"  computing", &tsr_report::prompt_us, milliseconds},
           Row{"    of that, repair", &tsr_report::repair_us, milliseconds},
       }) {
    text += line(row.label, rounds, [&](const Round& r) { return row.unit(r.report.*row.field); });
  }
  return text;
}

}  // namespace rag
