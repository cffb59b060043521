// sharing_bench: what sharing of chunks saves, in time and memory. See docs/sharing.md.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <thread>

#include "samples/common/model_options.hpp"
#include "samples/common/program.hpp"
#include "tests/bench/sharing/bench.hpp"

namespace {

const std::vector<std::pair<std::string, void (*)(sharing::Bench&)>> kMeasurements = {
    {"first_token", sharing::measure_first_token},
    {"memory", sharing::measure_memory},
};

struct Options {
  common::ModelOptions model;
  std::vector<std::string> only;
  std::string json;
  std::uint32_t rounds = 0;  // 0: as many as there usually are
  bool quick = false;
};

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
  sharing::Counts counts = options.quick ? sharing::quick_counts() : sharing::Counts();
  if (options.rounds) counts.rounds = options.rounds;
  sharing::Bench bench(model, options.model.threads, std::move(counts), options.json);
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
             {"version", tsr_version()}});
  for (const auto& [name, measure] : kMeasurements) {
    if (!options.only.empty() && !std::ranges::count(options.only, name)) continue;
    measure(bench);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // rows as they come
  Options options;
  std::vector<std::string> names;
  for (const auto& [name, measure] : kMeasurements) names.push_back(name);
  CLI::App app("What sharing of chunks saves: time to the first token, and KV of many sessions.",
               "sharing_bench");
  app.add_option("-m,--model", options.model.model, "GGUF file of the model")
      ->capture_default_str();
  app.add_option("-t,--threads", options.model.threads, "CPU threads (default: one a core)");
  app.add_option("--only", options.only, "Of: first_token, memory")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->option_text("NAME,... [all]");
  app.add_option("--rounds", options.rounds, "Of first_token")
      ->check(CLI::Range(1, 1000))
      ->option_text("N [7]");
  app.add_option("--json", options.json, "Also write one JSON object a line to this file");
  app.add_flag("--quick", options.quick, "Small counts, to see that everything works");
  return common::run(app, argc, argv, [&] { return run(options); });
}
