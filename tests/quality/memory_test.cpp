// Resident memory of the default model, in a process of its own: what loading and generating take
// beyond the weights and the KV budget.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tessera/tessera.hpp"

namespace tessera::test {
namespace {

constexpr char kModel[] = TESSERA_MODELS "/SmolLM2-135M-Instruct-Q4_1.gguf";
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kBar = 40000000;  // 40 MB
constexpr uint64_t kBudget = 64 * kMiB;

// Bytes of physical memory, by name of the line in /proc/self/status.
uint64_t resident(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream fields(line.substr(name.size() + 1));
    uint64_t kilobytes = 0;
    fields >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

void print(const char* what, int64_t bytes) {
  std::printf("%-44s %8.1f MB\n", what, static_cast<double>(bytes) / 1e6);
}

TEST(Memory, LoadedModel) {
  if (!std::filesystem::exists(kModel)) {
    GTEST_SKIP() << kModel << " is not there; ./dev test downloads it";
  }
  const uint64_t before = resident("VmRSS");
  ASSERT_GT(before, 0u);
  tsr::Runtime runtime;
  tsr::Model model(runtime, kModel);
  const uint64_t loaded = resident("VmRSS");
  const uint64_t weights = model.info().weight_bytes;
  ASSERT_GT(weights, 50 * kMiB);
  ASSERT_LT(weights, 2 * model.info().file_bytes) << "repacking must not double the weights";

  tsr::ContextOptions options;
  options.kv_budget = kBudget;
  tsr::Context context(model, options);
  const uint64_t created = resident("VmRSS");
  // About 700 tokens, a quarter of the budget.
  std::string text;
  for (int i = 0; i < 80; ++i) text += "Line " + std::to_string(i) + " of a longer text. ";
  tsr::Session session(context);
  session.add_text(text);
  tsr::GenerateOptions generate;
  generate.max_tokens = 8;
  session.generate(generate);
  session.read();
  const uint64_t generated = resident("VmRSS");
  const tsr::Metrics metrics = context.metrics();
  const uint64_t kv_used = metrics.pages_peak * metrics.page_bytes;

  print("before the load", static_cast<int64_t>(before));
  print("weights", static_cast<int64_t>(weights));
  print("load, beyond the weights", static_cast<int64_t>(loaded - before - weights));
  print("creating a context with a budget of 67.1 MB", static_cast<int64_t>(created - loaded));
  print("KV pages that the generation used", static_cast<int64_t>(kv_used));
  print("generation, beyond these pages",
        static_cast<int64_t>(generated) - static_cast<int64_t>(created + kv_used));
  print("largest ever, beyond all of the above",
        static_cast<int64_t>(resident("VmHWM")) - static_cast<int64_t>(generated));
  EXPECT_LE(loaded - before, weights + kBar);
  EXPECT_LE(generated - before, weights + kBudget + kBar);
  EXPECT_LE(resident("VmHWM") - before, weights + kBudget + kBar) << "at its largest";
  // The budget may be used or not yet touched; what is used must be counted.
  EXPECT_LE(generated - before, weights + std::max(kv_used, created - loaded) + kBar);
}

}  // namespace
}  // namespace tessera::test
