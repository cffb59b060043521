// tessera-bench: tokens a second for reading prompts and for generating.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "samples/bench/measure.hpp"
#include "samples/common/model_options.hpp"
#include "samples/common/program.hpp"

namespace {

struct Options {
  common::ModelOptions model;
  std::vector<std::uint32_t> prompt{128, 512};
  std::vector<std::uint32_t> generate{64};
  std::vector<std::uint32_t> depth{0};
  std::vector<std::uint32_t> threads{0};
  std::uint32_t repetitions = 3;
  bool json = false;
};

struct Row {
  bench::Test test;
  std::uint32_t threads;
  std::vector<double> speeds;  // tokens a second
};

std::vector<bench::Test> tests_of(const Options& options) {
  std::vector<bench::Test> tests;
  for (const std::uint32_t depth : options.depth) {
    for (const std::uint32_t tokens : options.prompt)
      if (tokens > 0) tests.push_back({bench::Kind::kPrompt, tokens, depth});
    for (const std::uint32_t tokens : options.generate)
      if (tokens > 0) tests.push_back({bench::Kind::kGenerate, tokens, depth});
  }
  return tests;
}

// "cpu" of "cpu", "vulkan" of "vulkan:0": a device id begins with its backend.
std::string backend_of(const std::string& device) {
  return device.substr(0, device.find(':'));
}

void print_header(const tsr::ModelInfo& info, const Options& options) {
  if (options.json) return;
  std::printf("%s, median of %u\n", common::describe(options.model, info).c_str(),
              options.repetitions);
  std::printf("%7s  %-14s %12s %10s %10s\n", "threads", "test", "tokens/s", "min", "max");
}

void print_row(const Row& row, const tsr::ModelInfo& info, const Options& options) {
  const double middle = bench::median(row.speeds);
  const auto [least, most] = std::minmax_element(row.speeds.begin(), row.speeds.end());
  const std::string name = bench::test_name(row.test);
  if (options.json) {
    const nlohmann::json object = {{"backend", backend_of(info.device)},
                                   {"device", info.device},
                                   {"model", common::model_name(options.model)},
                                   {"weights", info.weight_type},
                                   {"kv_type", common::kv_type_name(options.model.kv_type)},
                                   {"threads", row.threads},
                                   {"test", name},
                                   {"tokens_per_second", middle},
                                   {"min", *least},
                                   {"max", *most},
                                   {"repetitions", row.speeds.size()}};
    std::puts(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    std::printf("%7u  %-14s %12.1f %10.1f %10.1f\n", row.threads, name.c_str(), middle, *least,
                *most);
  }
  std::fflush(stdout);
}

int run(const Options& options) {
  const std::vector<bench::Test> tests = tests_of(options);
  if (tests.empty()) throw std::runtime_error("nothing to measure: both --pp and --tg are 0");
  const tsr::Runtime runtime;
  const tsr::Model model = common::load_model(runtime, options.model);
  const tsr::ModelInfo info = model.info();
  print_header(info, options);
  for (const std::uint32_t threads : options.threads) {
    tsr::ContextOptions context_options = common::context_options(options.model);
    context_options.threads = threads;
    const tsr::Context context(model, context_options);
    bench::Meter meter(model, context);
    const std::uint32_t used = threads ? threads : std::thread::hardware_concurrency();
    for (const bench::Test& test : tests)
      print_row({test, used, meter.measure(test, options.repetitions)}, info, options);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Tokens a second for reading prompts (pp) and for generating (tg).",
               "tessera-bench");
  app.add_option("-m,--model", options.model.model, "GGUF file of the model")
      ->capture_default_str();
  app.add_option("-p,--pp", options.prompt, "Lengths of prompts to read; 0 for none")
      ->delimiter(',')
      ->option_text("TOKENS,... [128,512]");
  app.add_option("-n,--tg", options.generate, "Numbers of tokens to generate; 0 for none")
      ->delimiter(',')
      ->option_text("TOKENS,... [64]");
  app.add_option("-d,--depth", options.depth, "Tokens in the context before each test")
      ->delimiter(',')
      ->option_text("TOKENS,... [0]");
  app.add_option("-t,--threads", options.threads, "CPU threads; 0 is one a core")
      ->delimiter(',')
      ->option_text("THREADS,... [0]");
  app.add_option("-r,--repetitions", options.repetitions, "Timed runs a test, after a warm-up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", options.json, "One JSON object a row");
  common::add_device_options(app, options.model);
  return common::run(app, argc, argv, [&] { return run(options); });
}
