// tessera-quality: how far answers over reused chunks are from those of full prefill, for this
// library's repair dial and for published methods in the same engine.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "tests/bench/quality/summary.hpp"

namespace tessera::quality {
namespace {

struct Options {
  std::string model = "models/SmolLM2-135M-Instruct-Q4_1.gguf";
  std::string texts;
  std::vector<std::string> methods;
  std::vector<std::string> questions = {"fact", "summary", "two_hop", "override", "order", "twice"};
  PromptShape shape;
  Settings settings;
  std::string kv_type = "f16";
  std::string reference_kv = "f16";
  std::string math = "fast";
  uint32_t primer_tokens = 512;
  uint32_t first = 0;
  uint32_t count = 20;
  uint64_t seed = 1;
  std::string raw;
  std::vector<std::string> pool;
  bool json = false;
};

KvType kv_type_of(const std::string& name) {
  if (name == "q8_0") return KvType::q8_0;
  return name == "f32" ? KvType::f32 : KvType::f16;
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::vector<const Method*> methods_of(const std::vector<std::string>& names) {
  std::vector<const Method*> methods;
  for (const Method& method : kMethods) {
    if (names.empty() || std::ranges::count(names, method.name)) methods.push_back(&method);
  }
  return methods;
}

// Takes a text, drawn from those that are long enough, out of `texts`: its first tokens are the
// primer, and it is not asked about.
std::string take_primer(const model::Model& model, std::vector<std::string>& texts, uint32_t tokens,
                        std::mt19937_64& random) {
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), random);
  for (const size_t i : order) {
    std::vector<int32_t> all = model.tokenizer().encode("Document:\n" + texts[i], false);
    if (all.size() < tokens) continue;
    all.resize(tokens);
    texts.erase(texts.begin() + static_cast<ptrdiff_t>(i));
    return model.tokenizer().decode(all, false);
  }
  fail(Status::invalid_argument,
       "a primer of " + std::to_string(tokens) + " tokens needs a text that has as many");
}

nlohmann::json settings_json(const Options& options, const model::Model& model) {
  return {{"model", options.model.substr(options.model.rfind('/') + 1)},
          {"weights", model.weight_type()},
          {"chunks", options.shape.chunks},
          {"chunk_tokens", options.shape.chunk_tokens},
          {"kv_type", options.kv_type},
          {"reference_kv", options.reference_kv},
          {"math", options.math},
          {"primer_tokens", options.primer_tokens},
          {"head_tokens", options.settings.head_tokens},
          {"select_share", options.settings.select_share},
          {"select_layers", options.settings.select_layers},
          {"answer_tokens", options.settings.answer_tokens},
          {"own_tokens", options.settings.own_tokens},
          {"seed", options.seed},
          {"threads", options.settings.threads}};
}

Run measure(const Options& options, std::ofstream& raw) {
  const std::vector<const Method*> methods = methods_of(options.methods);
  const std::vector<std::string> texts = read_texts(options.texts, options.shape.chunks + 1);
  model::LoadOptions load;
  load.device = "cpu";
  load.math = options.math == "reference" ? MathMode::reference : MathMode::fast;
  const auto model = std::make_shared<const model::Model>(options.model, load);
  Run run{settings_json(options, *model), {processor()}, {}};
  const auto encode = [&](const std::string& text, bool special) {
    return model->tokenizer().encode(text, special);
  };
  std::vector<Question> questions;
  for (const Question question : kQuestions) {
    if (std::ranges::count(options.questions, name_of(question))) questions.push_back(question);
  }
  std::fprintf(stderr, "%s, %u threads\n", processor().c_str(), options.settings.threads);
  for (uint32_t i = options.first; i < options.first + options.count; ++i) {
    std::mt19937_64 random(options.seed * 1'000'003 + i);
    std::vector<std::string> others = texts;
    const std::string primer = take_primer(*model, others, options.primer_tokens, random);
    Runner runner(model, options.settings, primer);
    std::vector<Prompt> prompts;
    for (const Question question : questions) {
      prompts.push_back(make_prompt(others, options.shape, question, encode, random));
    }
    const std::vector<std::vector<Outcome>> outcomes = runner.run(prompts, methods);
    for (size_t q = 0; q < questions.size(); ++q) {
      for (size_t m = 0; m < methods.size(); ++m) {
        const std::string question = name_of(questions[q]);
        outcomes_of(run.groups, methods[m]->name, question, i).push_back(outcomes[q][m]);
        if (!raw.is_open()) continue;
        nlohmann::json line = json_of(outcomes[q][m]);
        line.update({{"method", methods[m]->name}, {"question", question}, {"prompt", i}});
        line["processor"] = *run.processors.begin();
        line.update(run.settings);
        raw << line.dump() << '\n' << std::flush;
      }
    }
    std::fprintf(stderr, "\r%u of %u prompts", i + 1 - options.first, options.count);
  }
  std::fputc('\n', stderr);
  if (raw.is_open() && !raw) fail(Status::io_error, options.raw + ": cannot be written");
  arrange(run.groups);
  return run;
}

void print_json(const std::vector<nlohmann::json>& rows) {
  for (const nlohmann::json& row : rows) std::cout << row.dump() << '\n';
}

void tell(const std::vector<Run>& runs, const Options& options) {
  for (size_t i = 0; i < runs.size(); ++i) {
    std::vector<nlohmann::json> rows = rows_of(runs[i], options.seed);
    if (options.json) {
      for (nlohmann::json& row : rows) row["run"] = i;
      if (options.pool.empty())  // what was asked for, a line a question
        std::erase_if(rows, [](const nlohmann::json& row) { return row["question"] == kPooled; });
      print_json(rows);
      continue;
    }
    print_table(runs[i], rows);
    print_ratios(rows);
  }
  const std::vector<nlohmann::json> added = q8_rows_of(runs, options.seed);
  options.json ? print_json(added) : print_q8(added);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("How far answers over reused chunks are from those of full prefill",
               "tessera-quality");
  app.option_defaults()->always_capture_default();
  const auto texts = app.add_option("--texts", options.texts, "Folder of .txt and .md files");
  app.add_option("--model", options.model, "GGUF file");
  std::vector<std::string> names, questions;
  for (const Method& method : kMethods) names.emplace_back(method.name);
  for (const Question question : kQuestions) questions.emplace_back(name_of(question));
  app.add_option("--methods", options.methods, "All unless named")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--questions", options.questions)->delimiter(',')->check(CLI::IsMember(questions));
  app.add_option("--chunks", options.shape.chunks)->check(CLI::Range(2, 64));
  app.add_option("--chunk-tokens", options.shape.chunk_tokens)->check(CLI::Range(64, 4096));
  app.add_option("-n,--prompts", options.count, "Of each question")->check(CLI::PositiveNumber);
  app.add_option("--first-prompt", options.first, "Number of the first one, to share the work")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.seed);
  app.add_option("--threads", options.settings.threads)->check(CLI::Range(1, 256));
  app.add_option("--kv-type", options.kv_type)->check(CLI::IsMember({"f16", "q8_0", "f32"}));
  app.add_option("--reference-kv", options.reference_kv, "Of full prefill, to compare with")
      ->check(CLI::IsMember({"f16", "f32"}));
  app.add_option("--math", options.math)->check(CLI::IsMember({"fast", "reference"}));
  app.add_option("--primer-tokens", options.primer_tokens)->check(CLI::Range(1, 4096));
  app.add_option("--head", options.settings.head_tokens, "Of head, default")
      ->check(CLI::PositiveNumber);
  app.add_option("--share", options.settings.select_share, "Of select, default")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--layers", options.settings.select_layers, "The last ones, that choose")
      ->check(CLI::Range(0.01, 1.0));
  app.add_option("--answer-tokens", options.settings.answer_tokens,
                 "Of full prefill's answer, which all are compared over")
      ->check(CLI::PositiveNumber);
  app.add_option("--own-tokens", options.settings.own_tokens,
                 "Longest answer of each method's own, for length and hits; 0: none");
  app.add_option("--raw", options.raw, "Also write every outcome to this file");
  app.add_option("--pool", options.pool, "Runs nothing: tells of outcomes that --raw wrote")
      ->excludes(texts)
      ->option_text("FILE ...");
  app.add_flag("--json", options.json, "One JSON object a line");
  CLI11_PARSE(app, argc, argv);
  if (options.texts.empty() && options.pool.empty())
    fail(Status::invalid_argument, "--texts FOLDER is missing, or --pool FILE...");
  if (!options.pool.empty()) {
    tell(read_runs(options.pool), options);
    return 0;
  }
  options.settings.kv_type = kv_type_of(options.kv_type);
  options.settings.reference_kv = kv_type_of(options.reference_kv);
  if (options.settings.own_tokens && options.settings.own_tokens < options.settings.answer_tokens) {
    fail(Status::invalid_argument, "--own-tokens: 0, or at least --answer-tokens (" +
                                       std::to_string(options.settings.answer_tokens) + ")");
  }
  std::ofstream raw;
  if (!options.raw.empty()) {
    raw.open(options.raw);
    if (!raw) fail(Status::io_error, options.raw + ": cannot be written");
  }
  tell({measure(options, raw)}, options);
  return 0;
}

}  // namespace
}  // namespace tessera::quality

int main(int argc, char** argv) {
  try {
    return tessera::quality::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-quality: %s\n", error.what());
    return 1;
  }
}
