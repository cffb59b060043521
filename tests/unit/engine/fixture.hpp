// What the engine's tests share: the tiny model on each device, small contexts, answers.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "include/tessera/tessera.hpp"
#include "tests/unit/engine/probe.hpp"

namespace tessera::test {

// Bytes of KV of a token of the tiny model: K and V of 2 layers of 2 heads of 16 values, F16.
inline constexpr uint64_t kTokenBytes = 2 * 2 * 2 * 16 * 2;

// Path of the tiny model, written at the first call.
const std::string& model_path();

// Loads the tiny model, or another one, anew.
tsr::Model load_model(const std::string& device, const std::string& path = model_path());

// Text of `count` tokens, whatever stands around it: digits are tokens of their own.
std::string digits(uint64_t count, uint64_t seed);

// Sessions that repair chunks like this.
tsr::SessionOptions repair(tsr_repair mode);

// Options of a small context: pages of 8 tokens, `pages` of them, steps of 16 tokens, one thread,
// no primer.
tsr::ContextOptions small(uint64_t pages = 512);

// Greedy, just so many tokens, whether the model ends its turn or not.
tsr::GenerateOptions greedy(uint32_t tokens);
// Drawn from all tokens.
tsr::GenerateOptions drawn(uint32_t tokens, uint64_t seed);

// A TOKEN event.
struct Told {
  int32_t token = 0;
  float logprob = 0;
  std::vector<tsr_token_logprob> top;
  uint64_t tokens = 0;
  size_t text_bytes = 0;  // of the answer that came before it
};

struct Answer {
  std::string text;
  std::vector<Told> told;
  tsr_finish finish = TSR_FINISH_NONE;
  tsr_status status = TSR_OK;  // of a FAILED event
  std::string message;
  uint64_t tokens = 0;
  std::vector<uint64_t> progress;  // `processed` of the PROGRESS events
  uint64_t total = 0;              // of the last one
};

// Reads the answer under way to its last event, waiting at most a minute for each.
Answer read(tsr::Session& session);
// Generates and reads; expects an answer that does not fail. Returns the generated tokens.
std::vector<int32_t> generate(tsr::Session& session, const tsr::GenerateOptions& options);

// The status that `call` throws, TSR_OK if it does not.
template <typename Call>
tsr_status status_of(Call call, std::string* message = nullptr) {
  try {
    call();
    return TSR_OK;
  } catch (const tsr::Exception& error) {
    if (message) *message = error.what();
    EXPECT_STRNE(error.what(), "");
    return error.status();
  }
}

// The largest of the differences between two rows of logits.
float largest_difference(const std::vector<float>& a, const std::vector<float>& b);

// Counts that must add up whatever was reused.
void expect_report(const tsr::Session& session, uint64_t prompt);

// Nothing runs: all promises are gone, pages are the sessions' or the caches'.
void expect_idle(const tsr::Context& context);
// No session lives either.
void expect_only_caches(const tsr::Context& context);

// Waits until the engine has nothing to do any more (encodings included).
void wait_until_idle(const tsr::Context& context);

// Waits until so many texts of a disk tier were stored, or could not be.
void wait_stored(const tsr::Context& context, uint64_t count);

// On each device. The model is loaded once a device and kept for all tests.
class EngineTest : public testing::TestWithParam<std::string> {
 public:
  static tsr::Model& model(const std::string& device);
  static void release_models();

 protected:
  void SetUp() override;
  void TearDown() override;

  tsr::Model& model() { return model(GetParam()); }
  tsr::Context context(const tsr::ContextOptions& options = small()) {
    return tsr::Context(model(), options);
  }
};

#define TESSERA_ON_EACH_DEVICE(suite)                                        \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::Values("cpu", "remote"), \
                           [](const auto& device) { return device.param; })

}  // namespace tessera::test
