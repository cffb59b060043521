// serving_bench: what a program that serves many requests at once notices. See docs/cpu.md.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <stdexcept>
#include <thread>

#include "samples/common/model_options.hpp"
#include "samples/common/program.hpp"
#include "tests/bench/serving/bench.hpp"
#include "tests/bench/serving/machine.hpp"

namespace {

// In the order in which they are measured.
const std::vector<std::pair<std::string, void (*)(serving::Bench&)>> kMeasurements = {
    {"sessions", serving::measure_sessions}, {"shared", serving::measure_shared},
    {"lookup", serving::measure_lookup},     {"cancel", serving::measure_cancel},
    {"idle", serving::measure_idle},
};
constexpr double kTooBusy = 0.2;  // processors of others, above which figures mean little

struct Options {
  common::ModelOptions model;
  std::vector<std::string> only;
  std::vector<std::string> texts{"README.md", "docs/architecture.md", "docs/abi.md", "docs/text.md",
                                 "docs/samples.md"};
  std::string json;
  std::uint32_t rounds = 0;  // 0: as many as there usually are, likewise below
  std::uint32_t tries = 0;
  std::uint32_t shared_sessions = 0;
  float temperature = 0;
  float top_p = 1;
  bool quick = false;
};

serving::Counts counts_of(const Options& options) {
  serving::Counts counts = options.quick ? serving::quick_counts() : serving::Counts();
  if (options.rounds) counts.rounds = options.rounds;
  if (options.tries) counts.tries = options.tries;
  if (options.shared_sessions) counts.shared_sessions = options.shared_sessions;
  counts.temperature = options.temperature;
  counts.top_p = options.top_p;
  return counts;
}

// The device's name, which tells the processor and its kernels.
std::string name_of(const tsr::Runtime& runtime, const std::string& id) {
  for (const tsr::DeviceInfo& device : runtime.devices()) {
    if (device.id == id) return device.name;
  }
  return id;
}

int run(const Options& options) {
  const tsr::Runtime runtime;
  const tsr::Model model = common::load_model(runtime, options.model);
  const tsr::ModelInfo info = model.info();
  serving::Bench bench(model, options.model.threads, counts_of(options), options.texts,
                       options.json);
  const std::string device = name_of(runtime, info.device);
  const std::uint32_t threads =
      options.model.threads ? options.model.threads : std::thread::hardware_concurrency();
  std::printf("%s, %u threads\n%s\n", common::describe(options.model, info).c_str(), threads,
              device.c_str());
  bench.log({{"kind", "run"},
             {"model", common::model_name(options.model)},
             {"weights", info.weight_type},
             {"threads", threads},
             {"processor", device},
             {"temperature", options.temperature},
             {"top_p", options.top_p},
             {"version", tsr_version()}});
  const serving::Neighbours neighbours;
  for (const auto& [name, measure] : kMeasurements) {
    if (!options.only.empty() && std::ranges::find(options.only, name) == options.only.end())
      continue;
    measure(bench);
    std::fflush(stdout);
  }
  if (const std::optional<double> others = neighbours.processors()) {
    std::printf("\nother programs used %.2f of %u processors%s\n", *others,
                std::thread::hardware_concurrency(),
                *others > kTooBusy ? ": too much for these figures to mean anything" : "");
    bench.log({{"kind", "neighbours"}, {"processors", *others}});
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // rows as they come
  Options options;
  std::vector<std::string> names;
  for (const auto& [name, measure] : kMeasurements) names.push_back(name);
  CLI::App app(
      "Many sessions at once, also behind the same chunks, prompt lookup, the latency of a cancel, "
      "and the cost of idling.",
      "serving_bench");
  app.add_option("-m,--model", options.model.model, "GGUF file of the model")
      ->capture_default_str();
  app.add_option("-t,--threads", options.model.threads, "CPU threads (default: one a core)");
  app.add_option("--only", options.only, "Of: sessions, shared, lookup, cancel, idle")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->option_text("NAME,... [all]");
  app.add_option("--rounds", options.rounds, "Of sessions, shared and lookup")
      ->check(CLI::Range(1, 1000))
      ->option_text("N [5]");
  app.add_option("--tries", options.tries, "Of each kind of cancel")
      ->check(CLI::Range(1, 100000))
      ->option_text("N [50]");
  app.add_option("--shared-sessions", options.shared_sessions, "Of shared")
      ->check(CLI::Range(1, 64))
      ->option_text("N [64]");
  app.add_option("--temperature", options.temperature, "Of sessions, shared and cancel; 0: greedy")
      ->check(CLI::Range(0.0f, 100.0f))
      ->option_text("T [0]");
  app.add_option("--top-p", options.top_p, "Of sessions, shared and cancel")
      ->check(CLI::Range(0.0f, 1.0f))
      ->option_text("P [1]");
  app.add_option("--json", options.json, "Also write one JSON object a line to this file");
  app.add_option("--texts", options.texts, "Files that prompts and documents come from")
      ->delimiter(',')
      ->option_text("FILE,... [this project's pages]");
  app.add_flag("--quick", options.quick, "Small counts, to see that everything works");
  return common::run(app, argc, argv, [&] { return run(options); });
}
