// Host memory runs out at every allocation of a call that makes or changes something.
#include <utility>

#include "backends/remote/remote.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/engine/memory_fixture.hpp"

namespace tessera::test {
namespace {

class HostMemoryCalls : public MemoryFixture {
 protected:
  void run_gate(int64_t stride);
};
INSTANTIATE_TEST_SUITE_P(Devices, HostMemoryCalls, testing::Values("cpu"));
class FullHostMemoryCalls : public HostMemoryCalls {};
INSTANTIATE_TEST_SUITE_P(Devices, FullHostMemoryCalls, testing::Values("cpu"));

// Weights, pages, activations and scratch.
TEST_P(HostMemoryCalls, TheSystemHasNoneForAModelOrAContext) {
  if (!kMapsFail) GTEST_SKIP() << "maps do not fail in this build";
  int64_t n = 0;
  for (; !HasFailure(); ++n) {
    SCOPED_TRACE("map " + std::to_string(n));
    std::string message;
    g_failed = 0;
    g_maps_before = n;
    const tsr_status status = status_of(
        [] {
          const tsr::Model model = load_model("cpu");
          const tsr::Context context(model, small());
        },
        &message);
    g_maps_before = -1;
    EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
    if (g_failed == 0) break;
    EXPECT_NE(message.find("the system has no"), std::string::npos) << message;
  }
  EXPECT_GE(n, 5);
}

// A context that is not created leaves nothing on its device, wherever memory ran out.
TEST_P(HostMemoryCalls, RunsOutForAContext) {
  EngineTest::release_models();
  {
    const tsr::Model model = load_model("remote");
    const TempFolder temp;
    const std::string folder = temp.file("cache");
    int64_t n = 0;
    for (; !HasFailure(); ++n) {
      SCOPED_TRACE("allocation " + std::to_string(n));
      tsr::ContextOptions options = small(64);
      options.set_cache_folder(folder);
      tsr_context context = nullptr;
      g_failed = 0;
      g_before_here = n;
      const tsr_status status = tsr_context_create(model.get(), &options, &context);
      g_before_here = -1;
      tsr_context_destroy(context);
      EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
      if (g_failed == 0) break;
    }
    EXPECT_GT(n, 30);
  }
  EXPECT_EQ(remote::remote_report().left_behind, remote::RemoteStats{});
}

// A request for a chunk that is encoded, waited for and evaluated.
Outcome chunk_request(tsr_context context, tsr_session session, std::vector<float>& row) {
  Outcome outcome;
  const auto keep = [&](tsr_status status) {
    outcome.started = status;
    if (status == TSR_OK) return true;
    outcome.silent += tsr_last_error()[0] == '\0';
    outcome.strange += status != TSR_OUT_OF_HOST_MEMORY;
    return false;
  };
  tsr_chunk chunk = nullptr;
  uint64_t count = 0;
  if (keep(tsr_chunk_create_text(context, "0123456789", 10, nullptr, &chunk)) &&
      keep(tsr_chunk_wait(chunk, TSR_WAIT_FOREVER)) &&
      keep(tsr_session_add_chunk(session, chunk))) {
    keep(tsr_session_evaluate(session, TSR_LOGITS_LAST, row.data(), row.size(), &count));
  }
  tsr_chunk_destroy(chunk);
  return outcome;
}

TEST_P(HostMemoryCalls, RunsOutForAChunk) {
  std::vector<float> row(model().info().vocabulary);
  int64_t n = 0;
  for (; !HasFailure(); ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    tsr::Session session(context);
    session.add_anchor();
    g_length = 1;
    g_failed = 0;
    g_before = n;
    const Outcome outcome = chunk_request(context.get(), session.get(), row);
    g_before = -1;
    EXPECT_EQ(outcome.silent + outcome.strange, 0);
    expect_idle(context);
    EXPECT_EQ(session.evaluate().size(), row.size());
    session.reset();
    expect_only_caches(context);
    if (g_failed == 0) break;
  }
  EXPECT_GT(n, 100);
}

void HostMemoryCalls::run_gate(int64_t stride) {
  const tsr_text texts[] = {{"0123456789", 10}, {"9876543210", 10}};
  tsr_session_options setting{};
  setting.struct_size = sizeof setting;
  setting.head_tokens = 3;
  setting.select_share = 0.2f;
  tsr::SessionOptions measured;
  measured.head_tokens = setting.head_tokens;
  measured.select_share = setting.select_share;
  tsr_gate_options gate{};
  gate.struct_size = sizeof gate;
  gate.session = &setting;
  gate.texts = texts;
  gate.text_count = 2;
  gate.max_prompts = 1;
  gate.answer_tokens = 2;
  const auto measure = [&](const tsr::Context& context, tsr_gate_result& result) {
    result = {};
    result.struct_size = sizeof result;
    return tsr_context_gate(context.get(), &gate, &result);
  };
  tsr_gate_result wanted, result;
  ASSERT_EQ(measure(this->context(options()), wanted), TSR_OK);
  int failed = 0;
  int64_t n = 0;
  for (; !HasFailure(); n += stride) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    g_length = 1;
    g_failed = 0;
    g_before = n;
    const tsr_status status = measure(context, result);
    const bool told = tsr_last_error()[0] != '\0';
    g_before = -1;
    EXPECT_TRUE(status == TSR_OK || (status == TSR_OUT_OF_HOST_MEMORY && told))
        << tsr_status_name(status);
    failed += status != TSR_OK;
    EXPECT_EQ(context.gate_result(measured).has_value(), status == TSR_OK);
    expect_only_caches(context);
    const bool fired = g_failed > 0;
    EXPECT_EQ(measure(context, result), TSR_OK);
    EXPECT_EQ(result.kl_mean, wanted.kl_mean);
    expect_only_caches(context);
    if (!fired) break;
  }
  EXPECT_GT(failed, 30) << "of " << n << " allocations";
}

TEST_P(HostMemoryCalls, RunsOutForAGate) {
  run_gate(5);
}

TEST_P(FullHostMemoryCalls, RunsOutForAGate) {
  run_gate(1);
}

// A session that is forked, taken back, saved and restored: done, or not and all as before.
TEST_P(HostMemoryCalls, RunsOutForSessionsAsValues) {
  const tsr::Context context = this->context(options());
  tsr::Session session = chunks_and_text(context);
  generate(session, greedy(kNewTokens));
  tsr::Session plain = chunks_and_text(context);
  generate(plain, greedy(kNewTokens));
  const std::vector<int32_t> tokens = session.tokens();
  std::vector<uint8_t> bytes = session.save();
  const std::vector<uint8_t> saved = bytes;
  const auto at_each = [&](auto call, auto expect_done) {
    int64_t n = 0;
    for (; !HasFailure(); ++n) {
      SCOPED_TRACE("allocation " + std::to_string(n));
      g_failed = 0;
      g_before_here = n;
      const tsr_status status = call();
      g_before_here = -1;
      EXPECT_EQ(status, g_failed > 0 ? TSR_OUT_OF_HOST_MEMORY : TSR_OK);
      expect_idle(context);
      if (g_failed == 0) break;
      EXPECT_EQ(session.tokens(), tokens);
    }
    EXPECT_GT(n, 2);
    expect_done();
  };
  tsr_session made = nullptr;
  const auto destroy_made = [&] {
    EXPECT_NE(made, nullptr);
    tsr_session_destroy(std::exchange(made, nullptr));
  };
  at_each([&] { return tsr_session_fork(session.get(), &made); }, destroy_made);
  uint64_t size = 0;
  at_each([&] { return tsr_session_save(session.get(), bytes.data(), bytes.size(), &size); },
          [&] { EXPECT_EQ(bytes, saved); });
  at_each([&] { return tsr_session_restore(context.get(), saved.data(), saved.size(), &made); },
          destroy_made);
  const uint64_t place = tokens.size() - 2 * kNewTokens;  // within a chunk
  at_each([&] { return tsr_session_rewind(session.get(), place); },
          [&] { EXPECT_EQ(session.info().tokens, place); });
  plain.rewind(place);
  for (tsr::Session* s : {&session, &plain}) s->add_text("and?");
  EXPECT_EQ(generate(session, greedy(kNewTokens)), generate(plain, greedy(kNewTokens)));
  session.reset();
  plain.reset();
  expect_only_caches(context);
}

}  // namespace
}  // namespace tessera::test
