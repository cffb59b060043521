// sharing_bench: what sharing of chunks saves, in time and memory. See docs/sharing.md.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "samples/common/program.hpp"
#include "tests/bench/common/program.hpp"
#include "tests/bench/sharing/bench.hpp"

namespace {

const bench::Measurements<sharing::Bench> kMeasurements = {
    {"first_token", sharing::measure_first_token},
    {"memory", sharing::measure_memory},
};

struct Options : bench::Options {
  std::uint32_t rounds = 0;  // 0: as many as there usually are
};

int run(const Options& options) {
  const tsr::Runtime runtime;
  const tsr::Model model = common::load_model(runtime, options.model);
  sharing::Counts counts = options.quick ? sharing::quick_counts() : sharing::Counts();
  if (options.rounds) counts.rounds = options.rounds;
  sharing::Bench bench(model, options.model.threads, std::move(counts), options.json);
  bench::introduce(bench, runtime, options);
  bench::measure(bench, kMeasurements, options.only);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // rows as they come
  Options options;
  CLI::App app("What sharing of chunks saves: time to the first token, and KV of many sessions.",
               "sharing_bench");
  bench::add_options(app, options, bench::names(kMeasurements));
  app.add_option("--rounds", options.rounds, "Of first_token")
      ->check(CLI::Range(1, 1000))
      ->option_text("N [7]");
  return common::run(app, argc, argv, [&] { return run(options); });
}
