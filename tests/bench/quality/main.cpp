// tessera-quality: how far answers over reused chunks are from those of full prefill, for this
// library's repair dial and for published methods in the same engine.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/bench/quality/measures.hpp"
#include "tests/bench/quality/runner.hpp"

namespace tessera::quality {
namespace {

struct Options {
  std::string model = "models/SmolLM2-135M-Instruct-Q4_1.gguf";
  std::string texts;
  std::vector<std::string> methods;
  std::vector<std::string> questions = {"fact", "summary"};
  PromptShape shape;
  Settings settings;
  std::string kv_type = "f16";
  uint32_t primer_tokens = 512;
  uint32_t count = 20;
  uint64_t seed = 1;
  bool json = false;
};

// Outcomes of one method over prompts, and what is told of them.
struct Row {
  std::string method, question;
  std::vector<double> kl, first, agreement, recomputed, shared, own_bytes, ttft, ratio, found;
  std::vector<double> all_kl;

  void add(const Outcome& o, bool findable) {
    kl.push_back(mean(o.kl));
    all_kl.insert(all_kl.end(), o.kl.begin(), o.kl.end());
    first.push_back(o.kl.front());
    agreement.push_back(o.agreement);
    recomputed.push_back(o.recomputed);
    shared.push_back(o.bytes_shared);
    own_bytes.push_back(o.bytes_private);
    ttft.push_back(o.ttft_ms);
    ratio.push_back(o.length_ratio);
    if (findable) found.push_back(o.found);
  }
};

nlohmann::json json_of(const Row& row, uint64_t seed) {
  const Interval kl = mean_interval(row.kl, seed), first = mean_interval(row.first, seed);
  return {{"method", row.method},
          {"question", row.question},
          {"n", row.kl.size()},
          {"kl_mean", mean(row.kl)},
          {"kl_mean_low", kl.low},
          {"kl_mean_high", kl.high},
          {"kl_p90", percentile(row.all_kl, 0.9)},
          {"kl_first", mean(row.first)},
          {"kl_first_low", first.low},
          {"kl_first_high", first.high},
          {"top1", mean(row.agreement)},
          {"recomputed", mean(row.recomputed)},
          {"length_ratio", mean(row.ratio)},
          {"hits", mean(row.found)},
          {"bytes_private", mean(row.own_bytes)},
          {"bytes_shared", mean(row.shared)},
          {"ttft_ms", percentile(row.ttft, 0.5)}};
}

void print_header() {
  std::printf("%-10s %-12s %4s %8s %18s %8s %8s %18s %6s %7s %6s %5s %9s %9s %8s\n", "method",
              "question", "n", "KL", "95 %", "p90", "first", "95 %", "top-1", "recomp", "length",
              "hits", "private", "shared", "TTFT ms");
}

void print_row(const nlohmann::json& r) {
  const auto number = [&](const char* key) { return r[key].get<double>(); };
  std::printf(
      "%-10s %-12s %4d %8.4f [%7.4f, %7.4f] %8.4f %8.4f [%7.4f, %7.4f] %6.3f %7.3f %6.2f %5.2f "
      "%9.0f %9.0f %8.1f\n",
      r["method"].get<std::string>().c_str(), r["question"].get<std::string>().c_str(),
      r["n"].get<int>(), number("kl_mean"), number("kl_mean_low"), number("kl_mean_high"),
      number("kl_p90"), number("kl_first"), number("kl_first_low"), number("kl_first_high"),
      number("top1"), number("recomputed"), number("length_ratio"), number("hits"),
      number("bytes_private"), number("bytes_shared"), number("ttft_ms"));
}

// Means over fact and summary questions together, against MEPIC's rule.
void print_ratios(const std::vector<Row>& rows, uint64_t seed) {
  const auto find = [&](const std::string& method) -> const Row* {
    for (const Row& row : rows) {
      if (row.method == method && row.question == "fact+summary") return &row;
    }
    return nullptr;
  };
  const Row* mepic = find("mepic");
  if (!mepic) return;
  std::printf("\nagainst mepic, fact and summary questions together, 95 %% intervals\n");
  for (const Row& row : rows) {
    if (row.question != "fact+summary") continue;
    const Interval kl = ratio_interval(row.kl, mepic->kl, seed);
    const Interval first = ratio_interval(row.first, mepic->first, seed);
    std::printf("%-10s KL %5.2fx [%4.2f, %4.2f]   first token %5.2fx [%4.2f, %4.2f]\n",
                row.method.c_str(), mean(row.kl) / mean(mepic->kl), kl.low, kl.high,
                mean(row.first) / mean(mepic->first), first.low, first.high);
  }
}

std::vector<const Method*> methods_of(const std::vector<std::string>& names) {
  std::vector<const Method*> methods;
  for (const Method& method : kMethods) {
    if (names.empty() || std::ranges::find(names, method.name) != names.end()) {
      methods.push_back(&method);
    }
  }
  return methods;
}

std::string first_tokens(const model::Model& model, const std::string& text, uint32_t count) {
  std::vector<int32_t> tokens = model.tokenizer().encode("Document:\n" + text, false);
  tokens.resize(std::min<size_t>(tokens.size(), count));
  return model.tokenizer().decode(tokens, false);
}

std::vector<Row> measure(const Options& options) {
  model::LoadOptions load;
  load.device = "cpu";
  const auto model = std::make_shared<const model::Model>(options.model, load);
  std::vector<std::string> texts = read_texts(options.texts, options.shape.chunks + 1);
  const std::string primer = first_tokens(*model, texts.front(), options.primer_tokens);
  texts.erase(texts.begin());  // it is not asked about
  Runner runner(model, options.settings, primer);
  const std::vector<const Method*> methods = methods_of(options.methods);
  const auto encode = [&](const std::string& text, bool special) {
    return runner.encode(text, special);
  };
  const bool pooled = std::ranges::count(options.questions, "fact") &&
                      std::ranges::count(options.questions, "summary");
  std::vector<Row> rows;
  const auto row_of = [&](const std::string& method, const std::string& question) -> Row& {
    for (Row& row : rows) {
      if (row.method == method && row.question == question) return row;
    }
    rows.push_back({method, question, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}});
    return rows.back();
  };
  for (uint32_t i = 0; i < options.count; ++i) {
    for (const Question question : kQuestions) {
      const std::string name = name_of(question);
      if (!std::ranges::count(options.questions, name)) continue;
      const std::mt19937_64 random(options.seed * 1'000'003 + i);
      const Prompt prompt = make_prompt(texts, options.shape, question, encode, random);
      const std::vector<Outcome> outcomes = runner.run(prompt, methods);
      const bool findable = !prompt.wanted.empty() && options.settings.own_tokens > 0;
      for (size_t m = 0; m < methods.size(); ++m) {
        row_of(methods[m]->name, name).add(outcomes[m], findable);
        const bool both = question == Question::fact || question == Question::summary;
        if (pooled && both) row_of(methods[m]->name, "fact+summary").add(outcomes[m], findable);
      }
    }
    std::fprintf(stderr, "\r%u of %u prompts", i + 1, options.count);
  }
  std::fputc('\n', stderr);
  return rows;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("How far answers over reused chunks are from those of full prefill",
               "tessera-quality");
  app.option_defaults()->always_capture_default();
  app.add_option("--texts", options.texts, "Folder of .txt and .md files")->required();
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
  app.add_option("--seed", options.seed);
  app.add_option("--threads", options.settings.threads)->check(CLI::Range(1, 256));
  app.add_option("--kv-type", options.kv_type)->check(CLI::IsMember({"f16", "q8_0", "f32"}));
  app.add_option("--primer-tokens", options.primer_tokens)->check(CLI::Range(1, 4096));
  app.add_option("--head", options.settings.head_tokens)->check(CLI::PositiveNumber);
  app.add_option("--share", options.settings.select_share)->check(CLI::Range(0.0, 1.0));
  app.add_option("--layers", options.settings.select_layers)->check(CLI::Range(0.01, 1.0));
  app.add_option("--answer-tokens", options.settings.answer_tokens)->check(CLI::PositiveNumber);
  app.add_option("--own-tokens", options.settings.own_tokens,
                 "Longest answer of each method's own, for length and hits; 0: none");
  app.add_flag("--json", options.json, "One JSON object a line");
  CLI11_PARSE(app, argc, argv);
  options.settings.kv_type = options.kv_type == "f16"    ? KvType::f16
                             : options.kv_type == "q8_0" ? KvType::q8_0
                                                         : KvType::f32;
  const std::vector<Row> rows = measure(options);
  if (!options.json) print_header();
  for (const Row& row : rows) {
    const nlohmann::json json = json_of(row, options.seed);
    if (options.json) {
      std::cout << json.dump() << '\n';
    } else {
      print_row(json);
    }
  }
  if (!options.json) print_ratios(rows, options.seed);
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
