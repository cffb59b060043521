#include "tests/bench/common/program.hpp"

#include <thread>

namespace bench {
namespace {

// The device's name, which tells the processor and its kernels.
std::string name_of(const tsr::Runtime& runtime, const std::string& id) {
  for (const tsr::DeviceInfo& device : runtime.devices()) {
    if (device.id == id) return device.name;
  }
  return id;
}

}  // namespace

void add_options(CLI::App& app, Options& options, const std::vector<std::string>& measurements) {
  app.add_option("-m,--model", options.model.model, "GGUF file of the model")
      ->capture_default_str();
  app.add_option("-t,--threads", options.model.threads, "CPU threads (default: one a core)");
  app.add_option("--only", options.only, "Of: " + CLI::detail::join(measurements, ", "))
      ->delimiter(',')
      ->check(CLI::IsMember(measurements))
      ->option_text("NAME,... [all]");
  app.add_option("--json", options.json, "Also write one JSON object a line to this file");
  app.add_flag("--quick", options.quick, "Small counts, to see that everything works");
}

void introduce(Bench& bench, const tsr::Runtime& runtime, const Options& options,
               const nlohmann::json& more) {
  const tsr::ModelInfo info = bench.model.info();
  const std::string device = name_of(runtime, info.device);
  const std::uint32_t threads =
      options.model.threads ? options.model.threads : std::thread::hardware_concurrency();
  std::printf("%s, %u threads\n%s\n", common::describe(options.model, info).c_str(), threads,
              device.c_str());
  nlohmann::json row = {{"kind", "run"},
                        {"model", common::model_name(options.model)},
                        {"weights", info.weight_type},
                        {"threads", threads},
                        {"processor", device},
                        {"version", tsr_version()}};
  row.update(more);
  bench.log(row);
}

}  // namespace bench
