// Command-line options that every sample has, and what they make: a loaded model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <tessera/tessera.hpp>

namespace common {

inline constexpr const char* kDefaultModel = "models/SmolLM2-135M-Instruct-Q4_1.gguf";

struct ModelOptions {
  std::string model = kDefaultModel;
  std::string device;  // empty: the best one
  tsr_kv_type kv_type = TSR_KV_F16;
  std::uint64_t kv_budget = 0;  // bytes; 0: the library's default
  std::uint32_t threads = 0;    // 0: one a core
  tsr_math math = TSR_MATH_FAST;
};

// Adds --model, --device, --kv-type, --kv-budget, --threads and --math. `options` outlives `app`.
void add_model_options(CLI::App& app, ModelOptions& options);
// Adds --device, --kv-type, --kv-budget and --math only.
void add_device_options(CLI::App& app, ModelOptions& options);

// Loads the model and shows progress on a terminal. Throws tsr::Exception; if the file is missing,
// its message says how to get one.
tsr::Model load_model(const tsr::Runtime& runtime, const ModelOptions& options);

// Options of a context: KV type, budget and threads from the command line.
tsr::ContextOptions context_options(const ModelOptions& options);

// "f16", "q8_0" or "f32".
std::string kv_type_name(tsr_kv_type type);

// The file's name without folder and ".gguf"; the name inside many files is of little use.
std::string model_name(const ModelOptions& options);

// "SmolLM2-135M-Instruct-Q4_1, 134.5 M parameters, Q4_1, on cpu".
std::string describe(const ModelOptions& options, const tsr::ModelInfo& info);

}  // namespace common
