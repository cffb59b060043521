#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "samples/common/report.hpp"
#include "samples/rag/asker.hpp"
#include "samples/rag/commands.hpp"
#include "samples/rag/query.hpp"

namespace rag {
namespace {

const std::map<std::string, tsr_repair> kRepairs = {{"none", TSR_REPAIR_NONE},
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

void answer(Asker& asker, const Found& found, const AskOptions& options) {
  common::Interrupt interrupt;
  const common::Answer answer =
      asker.ask(found.question, found.hits, interrupt, [&](std::string_view text) {
        if (!options.json) std::cout << text << std::flush;
      });
  if (options.json) {
    nlohmann::json sources = nlohmann::json::array();
    for (const Hit& hit : found.hits) sources.push_back(source_json(hit, sources.size() + 1));
    return print_json({{"question", found.question},
                       {"answer", answer.text},
                       {"finish", common::finish_name(answer.finish)},
                       {"sources", sources},
                       {"report", common::report_json(asker.report())}});
  }
  std::cout << '\n';
  if (answer.finish == TSR_FINISH_LENGTH) std::cout << "[cut off after --max-tokens]\n";
  if (answer.finish == TSR_FINISH_CANCELLED) std::cout << "[cancelled]\n";
  std::cout << '\n';
  print_sources(found.hits);
  std::cout << common::format_report(asker.report()) << '\n' << std::flush;
}

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
  app.add_option("--repair", options.repair,
                 "none: passages are used as computed before; full: computed again in this prompt")
      ->transform(CLI::CheckedTransformer(kRepairs, CLI::ignore_case).description(""))
      ->option_text("MODE [none]");
  app.add_flag("--json", options.json, "One JSON object a question");
  common::add_model_options(app, options.model);
}

int run_ask(const AskOptions& options) {
  if (!std::filesystem::exists(options.library))
    throw DatabaseError("no library " + options.library + ": tessera-rag index FOLDER --library " +
                        options.library + " makes it");
  Library library(options.library, Library::Access::kRead);

  std::unique_ptr<tsr::Runtime> runtime;
  std::unique_ptr<tsr::Model> model;
  std::unique_ptr<Asker> asker;
  int status = 0;
  for (const std::string& question : options.questions) {
    const Found found{question, library.search(match_expression(question), options.top)};
    if (!options.json && options.questions.size() > 1) std::cout << "\n> " << question << "\n\n";
    if (found.hits.empty()) {
      tell_nothing_found(found, options);
      status = kNothingFound;
      continue;
    }
    if (!asker) {  // a question that nothing matches does not need the model
      runtime = std::make_unique<tsr::Runtime>();
      model = std::make_unique<tsr::Model>(common::load_model(*runtime, options.model));
      tsr::GenerateOptions generate;
      generate.max_tokens = options.max_tokens;
      asker = std::make_unique<Asker>(*model, options.model, options.repair, generate);
    }
    answer(*asker, found, options);
  }
  return status;
}

}  // namespace rag
