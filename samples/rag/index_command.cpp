#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "samples/rag/commands.hpp"
#include "samples/rag/indexer.hpp"
#include "samples/rag/primer.hpp"

namespace rag {
namespace {

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kIndexed:
      return "indexed";
    case Outcome::kUnchanged:
      return "unchanged";
    case Outcome::kSkipped:
      return "skipped";
    case Outcome::kRemoved:
      return "removed";
  }
  return "";
}

// A line for each file that was not as before.
void print_outcome(const FileOutcome& file) {
  if (file.outcome == Outcome::kUnchanged) return;
  const std::string detail = file.outcome == Outcome::kSkipped ? ": " + file.reason
                             : file.outcome == Outcome::kIndexed
                                 ? ": " + std::to_string(file.passages) + " passages"
                                 : "";
  std::printf("%3llu/%llu  %-9s %s%s\n", static_cast<unsigned long long>(file.done),
              static_cast<unsigned long long>(file.total), outcome_name(file.outcome),
              file.name.c_str(), detail.c_str());
  std::fflush(stdout);
}

// Counts tokens, and cuts by them, with the model, which is loaded at the first use: a folder in
// which nothing changed needs none.
class ModelCounter {
 public:
  explicit ModelCounter(const common::ModelOptions& options) : options_(options) {}

  std::size_t count(std::string_view text) {
    std::uint64_t count = 0;
    tsr::check(tsr_tokenize(model().get(), text.data(), text.size(), 0, nullptr, 0, &count));
    return static_cast<std::size_t>(count);
  }

  std::string cut(std::string_view text, std::size_t tokens) {
    std::vector<std::int32_t> all = model().tokenize(text);
    if (all.size() > tokens) all.resize(tokens);
    return model().detokenize(all);
  }

 private:
  const tsr::Model& model() {
    if (!model_) model_ = std::make_unique<tsr::Model>(common::load_model(runtime_, options_));
    return *model_;
  }

  const common::ModelOptions& options_;
  tsr::Runtime runtime_;
  std::unique_ptr<tsr::Model> model_;
};

// "cutting manual.txt 42 %" on a terminal, for files that take a while.
class Progress {
 public:
  void show(const std::string& name, std::size_t done, std::size_t total) {
    constexpr std::size_t kQuick = 1u << 20;  // bytes
    const int percent = static_cast<int>(100 * done / total);
    if (!terminal_ || total < kQuick || percent == percent_) return;
    std::fprintf(stderr, "\r\033[Kcutting %s %d %%", name.c_str(), percent);
    percent_ = percent;
  }
  void clear() {
    if (percent_ >= 0) std::fputs("\r\033[K", stderr);
    percent_ = -1;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  int percent_ = -1;  // shown now; -1: nothing
};

}  // namespace

void add_index_options(CLI::App& app, IndexOptions& options) {
  app.add_option("folder", options.folder, "Folder of text files")->required();
  app.add_option("-l,--library", options.library, "File of the library")->capture_default_str();
  app.add_flag(
      "--new-primer", options.new_primer,
      "Take the primer anew, from the library as it is now (what is cached becomes useless)");
  app.add_flag("--json", options.json, "One JSON object a file, then one with the totals");
  app.add_option("-m,--model", options.model.model, "GGUF file whose tokens measure the passages")
      ->capture_default_str();
}

int run_index(const IndexOptions& options) {
  if (!std::filesystem::is_directory(options.folder))
    throw DatabaseError(options.folder + " is not a folder");
  Library library(options.library, Library::Access::kWrite);
  ModelCounter counter(options.model);
  Progress progress;
  const auto report = [&](const FileOutcome& file) {
    progress.clear();
    if (!options.json) return print_outcome(file);
    const nlohmann::json row = {{"file", file.name},
                                {"outcome", outcome_name(file.outcome)},
                                {"reason", file.reason},
                                {"passages", file.passages}};
    std::puts(row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  };
  const IndexResult result = index_folder(
      library, options.folder, [&](std::string_view text) { return counter.count(text); }, report,
      [&](const std::string& name, std::size_t done, std::size_t total) {
        progress.show(name, done, total);
      });
  const bool primer_taken = take_primer(
      library, options.new_primer,
      [&](std::string_view text, std::size_t tokens) { return counter.cut(text, tokens); });
  const std::uint64_t passages = library.passage_count();
  if (options.json) {
    const nlohmann::json totals = {{"indexed", result.indexed}, {"unchanged", result.unchanged},
                                   {"skipped", result.skipped}, {"removed", result.removed},
                                   {"passages", passages},      {"primer_taken", primer_taken},
                                   {"library", options.library}};
    std::puts(totals.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    const auto n = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf("%llu indexed, %llu unchanged, %llu skipped, %llu removed; %llu passages in %s\n",
                n(result.indexed), n(result.unchanged), n(result.skipped), n(result.removed),
                n(passages), options.library.c_str());
    if (primer_taken)
      std::printf("the first %zu tokens are the primer that passages are computed behind\n",
                  kPrimerTokens);
  }
  return 0;
}

}  // namespace rag
