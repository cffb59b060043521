#include "samples/common/model_options.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>

namespace common {
namespace {

const std::map<std::string, tsr_kv_type> kKvTypes = {
    {"f16", TSR_KV_F16}, {"q8_0", TSR_KV_Q8_0}, {"f32", TSR_KV_F32}};
const std::map<std::string, tsr_math> kMaths = {{"fast", TSR_MATH_FAST},
                                                {"reference", TSR_MATH_REFERENCE}};

// On the loading thread.
std::int32_t show_progress(void*, float fraction) {
  std::fprintf(stderr, "\rloading the model %3.0f %%", 100.0 * fraction);
  return 0;
}

}  // namespace

void add_device_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--device", options.device, "Id of the device to run on (default: the best one)");
  app.add_option("--kv-type", options.kv_type, "Element type of the KV cache: f16, q8_0, f32")
      ->transform(CLI::CheckedTransformer(kKvTypes, CLI::ignore_case).description(""))
      ->option_text("TYPE [f16]");
  app.add_option("--kv-budget", options.kv_budget, "Memory for the KV cache, such as 256MB")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->option_text("SIZE [1GB]");
  app.add_option("--math", options.math, "fast, or reference (fp32, slow, to check against)")
      ->transform(CLI::CheckedTransformer(kMaths, CLI::ignore_case).description(""))
      ->option_text("MODE [fast]");
}

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("-m,--model", options.model, "GGUF file of the model")->capture_default_str();
  add_device_options(app, options);
  app.add_option("-t,--threads", options.threads, "CPU threads (default: one a core)");
}

tsr::Model load_model(const tsr::Runtime& runtime, const ModelOptions& options) {
  tsr::ModelOptions load;
  load.math = options.math;
  if (!options.device.empty()) {
    load.device = options.device.data();
    load.device_length = options.device.size();
  }
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal) load.progress = show_progress;
  const auto clear_line = [terminal] {
    if (terminal) std::fputs("\r\033[K", stderr);
  };
  try {
    tsr::Model model(runtime, options.model, load);
    clear_line();
    return model;
  } catch (const tsr::Exception& error) {
    clear_line();
    const bool missing =
        error.status() == TSR_NOT_FOUND && access(options.model.c_str(), F_OK) != 0;
    if (!missing) throw;
    throw tsr::Exception(
        TSR_NOT_FOUND,
        std::string(error.what()) +
            "\nrun ./dev demo in Tessera's folder, which downloads the default model "
            "into models/, or give a GGUF file with --model FILE");
  }
}

tsr::ContextOptions context_options(const ModelOptions& options) {
  tsr::ContextOptions context;
  context.kv_type = options.kv_type;
  context.kv_budget = options.kv_budget;
  context.threads = options.threads;
  return context;
}

std::string kv_type_name(tsr_kv_type type) {
  for (const auto& [name, value] : kKvTypes)
    if (value == type) return name;
  return "unknown";
}

std::string model_name(const ModelOptions& options) {
  const std::filesystem::path path(options.model);
  return (path.extension() == ".gguf" ? path.stem() : path.filename()).string();
}

std::string describe(const ModelOptions& options, const tsr::ModelInfo& info) {
  char parameters[64];
  std::snprintf(parameters, sizeof parameters, ", %.1f M parameters, ",
                static_cast<double>(info.parameters) / 1e6);
  return model_name(options) + parameters + info.weight_type + ", on " + info.device;
}

}  // namespace common
