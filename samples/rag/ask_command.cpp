#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "samples/common/report.hpp"
#include "samples/rag/asker.hpp"
#include "samples/rag/commands.hpp"
#include "samples/rag/compare.hpp"
#include "samples/rag/query.hpp"

namespace rag {
namespace {

const std::map<std::string, tsr_repair> kRepairs = {{"default", TSR_REPAIR_DEFAULT},
                                                    {"none", TSR_REPAIR_NONE},
                                                    {"head", TSR_REPAIR_HEAD},
                                                    {"select", TSR_REPAIR_SELECT},
                                                    {"head+select", TSR_REPAIR_HEAD_SELECT},
                                                    {"full", TSR_REPAIR_FULL}};

std::string place(const Hit& hit) {
  return hit.name + ", line " + std::to_string(hit.line) + ", bytes " + std::to_string(hit.begin) +
         " to " + std::to_string(hit.end);
}

// Lines and runs of spaces become one space: an excerpt stands on one line.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (!space)
      line += c;
    else if (!line.empty() && line.back() != ' ')
      line += ' ';
  }
  return line;
}

// Numbers are given here, once; nothing else counts passages.
void print_sources(const std::vector<Hit>& hits) {
  std::cout << "Sources\n";
  for (std::size_t i = 0; i < hits.size(); ++i) {
    char score[32];
    std::snprintf(score, sizeof score, "%.2f", hits[i].score);
    std::cout << "  [" << i + 1 << "] " << place(hits[i]) << ", score " << score << "\n      "
              << one_line(hits[i].excerpt) << '\n';
  }
}

nlohmann::json source_json(const Hit& hit, std::size_t number) {
  return {{"number", number},   {"file", hit.path},       {"name", hit.name},
          {"line", hit.line},   {"begin", hit.begin},     {"end", hit.end},
          {"score", hit.score}, {"excerpt", hit.excerpt}, {"text", hit.text}};
}

void print_json(const nlohmann::json& row) {
  std::cout << row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

// What one question's search found.
struct Found {
  std::string question;
  std::vector<Hit> hits;
};

void tell_nothing_found(const Found& found, const AskOptions& options) {
  if (options.json)
    return print_json(
        {{"question", found.question}, {"answer", nullptr}, {"sources", nlohmann::json::array()}});
  std::cout << "Nothing in " << options.library << " matches this question.\n" << std::flush;
}

nlohmann::json sources_json(const std::vector<Hit>& hits) {
  nlohmann::json sources = nlohmann::json::array();
  for (const Hit& hit : hits) sources.push_back(source_json(hit, sources.size() + 1));
  return sources;
}

nlohmann::json rounds_json(const Found& found, const std::vector<Round>& rounds) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Round& round : rounds)
    rows.push_back({{"name", round.name},
                    {"order", round.order},
                    {"answer", round.answer.text},
                    {"finish", common::finish_name(round.answer.finish)},
                    {"report", common::report_json(round.report)}});
  return {{"question", found.question}, {"sources", sources_json(found.hits)}, {"compare", rows}};
}

void answer(Asker& asker, const Found& found, const AskOptions& options) {
  common::Interrupt interrupt;
  const common::Answer answer =
      asker.ask(found.question, found.hits, interrupt, [&](std::string_view text) {
        if (!options.json) std::cout << text << std::flush;
      });
  if (options.json) {
    return print_json({{"question", found.question},
                       {"answer", answer.text},
                       {"finish", common::finish_name(answer.finish)},
                       {"sources", sources_json(found.hits)},
                       {"report", common::report_json(asker.report())}});
  }
  std::cout << '\n';
  if (answer.finish == TSR_FINISH_LENGTH) std::cout << "[cut off after --max-tokens]\n";
  if (answer.finish == TSR_FINISH_CANCELLED) std::cout << "[cancelled]\n";
  std::cout << '\n';
  print_sources(found.hits);
  std::cout << common::format_report(asker.report()) << '\n' << std::flush;
}

std::string cache_beside(const std::string& library) {
  return std::filesystem::path(library).replace_extension(".cache").string();
}

// Loads the model when the first question that has passages needs it.
class Answering {
 public:
  Answering(const AskOptions& options, Library& library) : options_(options) {
    asker_options_.repair = options.repair;
    asker_options_.generate.max_tokens = options.max_tokens;
    asker_options_.primer = library.primer();
    if (!options.no_cache)
      asker_options_.cache = options.cache.empty() ? cache_beside(options.library) : options.cache;
  }

  void operator()(const Found& found) {
    if (!model_)
      model_ = std::make_unique<tsr::Model>(common::load_model(runtime_, options_.model));
    if (options_.compare) return show_reuse(found);
    if (!asker_) asker_ = std::make_unique<Asker>(*model_, options_.model, asker_options_);
    answer(*asker_, found, options_);
  }
  void end() const {
    if (asker_) asker_->flush();
  }

 private:
  void show_reuse(const Found& found) {
    const std::vector<Round> rounds =
        compare(*model_, options_.model, asker_options_, found.question, found.hits);
    if (options_.json) return print_json(rounds_json(found, rounds));
    for (const Round& round : rounds) std::cout << round.name << ": " << round.answer.text << "\n";
    std::cout << '\n';
    print_sources(found.hits);
    std::cout << '\n' << format_rounds(rounds) << std::flush;
  }

  const AskOptions& options_;
  AskerOptions asker_options_;
  tsr::Runtime runtime_;
  std::unique_ptr<tsr::Model> model_;
  std::unique_ptr<Asker> asker_;
};

}  // namespace

void add_ask_options(CLI::App& app, AskOptions& options) {
  app.add_option("question", options.questions, "One or more questions, each answered by itself")
      ->required();
  app.add_option("-l,--library", options.library, "File of the library")->capture_default_str();
  app.add_option("-n,--top", options.top, "Passages given to the model")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--max-tokens", options.max_tokens, "Longest answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option(
         "--repair", options.repair,
         "What of the passages is computed again in place: none, head (their first tokens), "
         "select (what the question looks at), head+select (the default), full")
      ->transform(CLI::CheckedTransformer(kRepairs, CLI::ignore_case).description(""))
      ->option_text("MODE [default]");
  CLI::Option* cache = app.add_option("--cache", options.cache,
                                      "Folder that keeps computed passages for the next time")
                           ->option_text("FOLDER [beside the library: NAME.cache]");
  app.add_flag("--no-cache", options.no_cache, "Keep nothing on disk")->excludes(cache);
  app.add_flag("--compare", options.compare,
               "Answer cold, warm and after a restart, and show the reports side by side");
  app.add_flag("--json", options.json, "One JSON object a question");
  common::add_model_options(app, options.model);
}

int run_ask(const AskOptions& options) {
  if (!std::filesystem::exists(options.library))
    throw DatabaseError("no library " + options.library + ": tessera-rag index FOLDER --library " +
                        options.library + " makes it");
  Library library(options.library, Library::Access::kRead);

  Answering answering(options, library);
  int status = 0;
  for (const std::string& question : options.questions) {
    const Found found{question, library.search(match_expression(question), options.top)};
    if (!options.json && options.questions.size() > 1) std::cout << "\n> " << question << "\n\n";
    if (found.hits.empty()) {
      tell_nothing_found(found, options);
      status = kNothingFound;
      continue;
    }
    answering(found);
  }
  answering.end();
  return status;
}

}  // namespace rag
