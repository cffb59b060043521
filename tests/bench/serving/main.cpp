// serving_bench: what a program that serves many requests at once notices. See docs/cpu.md.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <thread>

#include "samples/common/program.hpp"
#include "tests/bench/common/program.hpp"
#include "tests/bench/serving/bench.hpp"
#include "tests/bench/serving/machine.hpp"

namespace {

const bench::Measurements<serving::Bench> kMeasurements = {
    {"sessions", serving::measure_sessions}, {"shared", serving::measure_shared},
    {"lookup", serving::measure_lookup},     {"cancel", serving::measure_cancel},
    {"idle", serving::measure_idle},
};
constexpr double kTooBusy = 0.2;  // processors of others, above which figures mean little

struct Options : bench::Options {
  std::vector<std::string> texts{"README.md", "docs/architecture.md", "docs/abi.md", "docs/text.md",
                                 "docs/samples.md"};
  std::uint32_t rounds = 0;  // 0: as many as there usually are, likewise below
  std::uint32_t tries = 0;
  std::uint32_t shared_sessions = 0;
  float temperature = 0;
  float top_p = 1;
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

int run(const Options& options) {
  const tsr::Runtime runtime;
  const tsr::Model model = common::load_model(runtime, options.model);
  serving::Bench bench(model, options.model.threads, counts_of(options), options.texts,
                       options.json);
  bench::introduce(bench, runtime, options,
                   {{"temperature", options.temperature}, {"top_p", options.top_p}});
  const serving::Neighbours neighbours;
  bench::measure(bench, kMeasurements, options.only);
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
  CLI::App app(
      "Many sessions at once, also behind the same chunks, prompt lookup, the latency of a cancel, "
      "and the cost of idling.",
      "serving_bench");
  bench::add_options(app, options, bench::names(kMeasurements));
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
  app.add_option("--texts", options.texts, "Files that prompts and documents come from")
      ->delimiter(',')
      ->option_text("FILE,... [this project's pages]");
  return common::run(app, argc, argv, [&] { return run(options); });
}
