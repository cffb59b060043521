#include "tests/unit/engine/fixture.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include "backends/remote/faults.hpp"
#include "backends/remote/remote.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {
namespace {

constexpr int64_t kPatienceMs = 60'000;  // of a busy machine with a sanitizer

std::map<std::string, tsr::Model>& models() {
  static std::map<std::string, tsr::Model> models;
  return models;
}

}  // namespace

const std::string& model_path() {
  static TempFolder folder;
  static const std::string path = [] {
    std::string file = folder.file("tiny.gguf");
    TinyModel model;
    model.context = 8192;  // prompts and answers that outlast whatever the test does meanwhile
    write_tiny_model(file, model);
    return file;
  }();
  return path;
}

tsr::Model load_model(const std::string& device, const std::string& path) {
  remote::register_remote_provider();
  const tsr::Runtime runtime;
  tsr::ModelOptions options;
  options.device = device.data();
  options.device_length = device.size();
  return tsr::Model(runtime, path, options);
}

std::string digits(uint64_t count, uint64_t seed) {
  Random random(seed * 1000 + count);
  std::string text;
  for (uint64_t i = 0; i < count; ++i) text += static_cast<char>('0' + random.below(10));
  return text;
}

tsr::SessionOptions repair(tsr_repair mode) {
  tsr::SessionOptions options;
  options.repair = mode;
  return options;
}

tsr::ContextOptions small(uint64_t pages) {
  tsr::ContextOptions options;
  options.page_size = 8;
  options.kv_budget = pages * 8 * kTokenBytes;
  options.max_step_tokens = 16;
  options.threads = 1;
  options.flags = TSR_CONTEXT_NO_PRIMER;
  return options;
}

tsr::GenerateOptions greedy(uint32_t tokens) {
  tsr::GenerateOptions options;
  options.max_tokens = tokens;
  options.flags = TSR_GENERATE_IGNORE_END;
  return options;
}

tsr::GenerateOptions drawn(uint32_t tokens, uint64_t seed) {
  tsr::GenerateOptions options = greedy(tokens);
  options.temperature = 1;
  options.seed = seed;
  return options;
}

Answer read(tsr::Session& session) {
  Answer answer;
  while (true) {
    const auto event = session.next(kPatienceMs);
    if (!event) {
      ADD_FAILURE() << "no event within a minute";
      answer.status = TSR_TIMEOUT;
      return answer;
    }
    switch (event->kind) {
      case TSR_EVENT_PROGRESS:
        answer.progress.push_back(event->processed);
        answer.total = event->total;
        break;
      case TSR_EVENT_TOKEN:
        answer.told.push_back(
            {event->token, event->logprob, event->top(), event->tokens, answer.text.size()});
        EXPECT_TRUE(event->text().empty());
        break;
      case TSR_EVENT_TEXT:
        EXPECT_TRUE(event->top().empty());
        answer.text += event->text();
        answer.tokens = event->tokens;
        break;
      case TSR_EVENT_DONE:
        answer.finish = event->finish;
        answer.tokens = event->tokens;
        return answer;
      case TSR_EVENT_FAILED:
        answer.status = event->status;
        answer.message = event->text();
        EXPECT_FALSE(answer.message.empty());
        return answer;
      default:
        ADD_FAILURE() << "no answer is under way";
        return answer;
    }
  }
}

std::vector<int32_t> generate(tsr::Session& session, const tsr::GenerateOptions& options) {
  const size_t before = session.info().tokens;
  session.generate(options);
  const Answer answer = read(session);
  EXPECT_EQ(answer.status, TSR_OK) << answer.message;
  std::vector<int32_t> tokens = session.tokens();
  EXPECT_EQ(tokens.size(), before + answer.tokens);
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(before));
  return tokens;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

void expect_report(const tsr::Session& session, uint64_t prompt) {
  const tsr::Report r = session.report();
  EXPECT_EQ(r.tokens_exact + r.tokens_repaired + r.tokens_approximate + r.tokens_computed, prompt);
  EXPECT_GE(r.tokens_computed + r.tokens_repaired, 1u);
}

void wait_until_idle(const tsr::Context& context) {
  engine::ContextProbe probe(context.get());
  for (int i = 0; i < kPatienceMs; ++i) {
    if (probe.idle()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ADD_FAILURE() << "the engine does not come to rest";
}

void wait_stored(const tsr::Context& context, uint64_t count) {
  EXPECT_TRUE(context.flush(kPatienceMs));
  const tsr::Metrics m = context.metrics();
  EXPECT_GE(m.chunks_stored + m.store_failures, count);
}

void expect_idle(const tsr::Context& context) {
  wait_until_idle(context);
  engine::ContextProbe probe(context.get());
  EXPECT_EQ(probe.check(), "");
  const tsr::Metrics m = context.metrics();
  EXPECT_EQ(m.pages_reserved, 0u);
  EXPECT_EQ(m.pages_used - m.pages_cached, probe.pages_of_sessions());
  EXPECT_LE(m.pages_used, m.pages_total);
  EXPECT_LE(m.pages_peak, m.pages_total);
}

void expect_only_caches(const tsr::Context& context) {
  expect_idle(context);
  const tsr::Metrics m = context.metrics();
  EXPECT_EQ(m.sessions, 0u);
  EXPECT_EQ(m.pages_used, m.pages_cached);
}

tsr::Model& EngineTest::model(const std::string& device) {
  auto it = models().find(device);
  if (it == models().end()) it = models().emplace(device, load_model(device)).first;
  return it->second;
}

void EngineTest::release_models() {
  models().clear();
}

void EngineTest::SetUp() {
  remote::set_faults({});
  remote::reset_remote_report();
}

// No test leaves anything on a device or breaks the backend's rules.
void EngineTest::TearDown() {
  remote::set_faults({});
  const remote::RemoteReport report = remote::remote_report();
  EXPECT_EQ(report.live.page_memories, 0);
  EXPECT_EQ(report.live.programs, 0);
  EXPECT_EQ(report.failed_workers, 0u);
  for (const std::string& breach : report.breaches) ADD_FAILURE() << breach;
}

}  // namespace tessera::test
