// A device that fails at every point where it can: memory, steps, the device itself, its process.
#include "backends/remote/faults.hpp"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "backends/remote/remote.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

using remote::RemoteStats;

// What a program holds; destroyed in an order that changes.
struct Everything {
  std::optional<tsr::Model> model;
  std::optional<tsr::Context> context;
  std::optional<tsr::Chunk> chunk;
  std::optional<tsr::Session> session;

  void destroy(int64_t order) {
    for (int i = 0; i < 4; ++i) {
      switch ((order + i) % 4) {
        case 0:
          model.reset();
          break;
        case 1:
          context.reset();
          break;
        case 2:
          chunk.reset();
          break;
        default:
          session.reset();
      }
    }
  }
};

class Faults : public EngineTest {
 protected:
  void SetUp() override {
    release_models();
    EngineTest::SetUp();
  }
  void TearDown() override {
    EngineTest::TearDown();
    expect_nothing_left();
  }

  static void expect_nothing_left() {
    const remote::RemoteReport report = remote::remote_report();
    EXPECT_EQ(report.live, RemoteStats{});
    EXPECT_EQ(report.left_behind, RemoteStats{});
    EXPECT_EQ(report.backends, 0);
    EXPECT_EQ(report.workers, 0);
    EXPECT_EQ(report.failed_workers, 0u);
    EXPECT_TRUE(report.breaches.empty());
  }

  // Sets up, in parts, a request with a chunk in it.
  static void load(Everything& all) { all.model = load_model("remote"); }
  static void prepare(Everything& all) {
    all.context.emplace(*all.model, small(64));
    tsr::ChunkOptions lazy;
    lazy.flags = TSR_CHUNK_LAZY;
    all.chunk.emplace(*all.context, digits(20, 1), lazy);
    all.session.emplace(*all.context);
    all.session->add_text(digits(5, 2));
    all.session->add_chunk(*all.chunk);
    all.session->add_text("?");
  }
  static Answer ask(Everything& all) {
    all.session->generate(greedy(4));
    return read(*all.session);
  }
  // A model loaded anew computes what the first one did.
  void expect_works() {
    Everything all;
    load(all);
    prepare(all);
    const Answer answer = ask(all);
    EXPECT_EQ(answer.finish, TSR_FINISH_LENGTH) << answer.message;
    if (wanted_.empty()) wanted_ = all.session->tokens();
    EXPECT_EQ(all.session->tokens(), wanted_);
  }

  std::vector<int32_t> wanted_;
};
INSTANTIATE_TEST_SUITE_P(Devices, Faults, testing::Values("remote"));

TEST_P(Faults, NoDeviceMemoryForTheNthAllocation) {
  expect_works();
  int64_t n = 0;
  for (;; ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    remote::set_faults({.fail_allocation_after = n});
    Everything all;
    std::string message;
    const tsr_status status = status_of(
        [&] {
          load(all);
          prepare(all);
        },
        &message);
    const bool fired = remote::faults().fail_allocation_after < 0;
    remote::set_faults({});
    EXPECT_EQ(status, fired ? TSR_OUT_OF_DEVICE_MEMORY : TSR_OK) << message;
    if (all.model && !all.context) prepare(all);  // the model is still good
    if (all.context) {
      EXPECT_EQ(ask(all).finish, TSR_FINISH_LENGTH);
    }
    all.destroy(n);
    expect_nothing_left();
    if (!fired || HasFailure()) break;
  }
  EXPECT_EQ(n, 22) << "20 weights, pages, program";
  expect_works();
}

TEST_P(Faults, TheDeviceIsLostAtTheNthCall) {
  expect_works();
  for (int64_t n = 0;; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    Everything all;
    load(all);
    prepare(all);
    remote::set_faults({.lose_device_after = n});
    const Answer answer = ask(all);
    const bool fired = remote::faults().lose_device_after < 0;
    remote::set_faults({});
    if (!fired) {
      EXPECT_EQ(answer.finish, TSR_FINISH_LENGTH);
      EXPECT_GT(n, 10);
      break;
    }
    EXPECT_EQ(answer.status, TSR_DEVICE_LOST);
    // Everything says so from now on, and nothing hangs.
    EXPECT_EQ(engine::ContextProbe(all.context->get()).check(), "");
    EXPECT_EQ(status_of([&] { all.session->generate(greedy(1)); }), TSR_DEVICE_LOST);
    EXPECT_EQ(status_of([&] { all.session->evaluate(); }), TSR_DEVICE_LOST);
    EXPECT_EQ(status_of([&] { all.chunk->wait(1000); }), TSR_DEVICE_LOST);
    EXPECT_EQ(status_of([&] { tsr::Chunk(*all.context, "more"); }), TSR_DEVICE_LOST);
    EXPECT_EQ(status_of([&] { tsr::Context(*all.model, small(64)); }), TSR_DEVICE_LOST);
    expect_idle(*all.context);
    all.session->cancel();
    EXPECT_GE(all.session->tokens().size(), 26u) << "the tokens are still there";
    all.destroy(n);
    expect_nothing_left();
    if (HasFailure()) break;
  }
  expect_works();
}

// A step that fails ends the answers in it. The device lives, and so does the session.
TEST_P(Faults, TheNthStepFails) {
  expect_works();
  Everything all;
  load(all);
  for (int64_t n = 0;; ++n) {
    SCOPED_TRACE("step " + std::to_string(n));
    prepare(all);
    remote::set_faults({.fail_step_after = n});
    const Answer answer = ask(all);
    const bool fired = remote::faults().fail_step_after < 0;
    remote::set_faults({});
    EXPECT_EQ(answer.status, fired ? TSR_INTERNAL : TSR_OK) << answer.message;
    if (fired) {
      expect_idle(*all.context);
      const uint64_t left = wanted_.size() - all.session->info().tokens;
      ASSERT_GT(left, 0u);
      all.session->generate(greedy(static_cast<uint32_t>(left)));
      EXPECT_EQ(read(*all.session).finish, TSR_FINISH_LENGTH) << "a failed encoding is tried again";
    }
    EXPECT_EQ(all.session->tokens(), wanted_);
    expect_idle(*all.context);
    all.session.reset();
    expect_only_caches(*all.context);
    if (!fired || HasFailure()) break;
  }
  EXPECT_EQ(remote::remote_report().lost_devices, 0u);
}

// A draft of the failed step may have taken a page; the session goes on to the same bits.
TEST_P(Faults, AFailedStepOfADraft) {
  const tsr::Model model = load_model("remote");
  const tsr::Context context(model, small()), plain(model, small());
  std::vector<tsr_logit_bias> biases;
  for (const char* digit : {"0", "1"}) biases.push_back({model.tokenize(digit)[0], 900});
  tsr::GenerateOptions options = drawn(30, 3);
  options.lookup_tokens = 12;
  options.set_biases(biases);
  uint64_t drafted = 0;
  for (int64_t n = 0;; ++n) {
    SCOPED_TRACE("step " + std::to_string(n));
    tsr::Session session(context), fresh(plain);
    session.add_text("010101010101");
    remote::set_faults({.fail_step_after = n});
    session.generate(options);
    const Answer answer = read(session);
    const bool fired = remote::faults().fail_step_after < 0;
    remote::set_faults({});
    EXPECT_EQ(answer.status, fired ? TSR_INTERNAL : TSR_OK) << answer.message;
    drafted += session.report().tokens_drafted;
    expect_idle(context);
    fresh.add_tokens(session.tokens());
    const std::vector<float> want = fresh.evaluate();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(session.evaluate(), want) << "evaluation " << i;
    expect_idle(context);
    if (!fired || HasFailure()) break;
  }
  EXPECT_GT(drafted, 30u);
}

TEST_P(Faults, AFailedStepOfAnEncoding) {
  Everything all;
  load(all);
  prepare(all);
  remote::set_faults({.fail_step_after = 0});
  EXPECT_EQ(status_of([&] { all.chunk->wait(); }), TSR_INTERNAL);
  EXPECT_EQ(all.chunk->info().state, TSR_CHUNK_FAILED);
  EXPECT_TRUE(all.chunk->wait()) << "the second try";
  EXPECT_EQ(all.chunk->info().state, TSR_CHUNK_READY);
}

// An anchor that cannot be encoded fails every chunk behind it and every session that waits.
TEST_P(Faults, AFailedStepOfTheAnchor) {
  const tsr::Model model = load_model("remote");
  tsr::ContextOptions options = small(64);
  options.set_anchor("<|im_start|>anchor");
  options.flags = 0;
  options.set_primer("primer");
  const tsr::Context context(model, options);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  std::vector<tsr::Session> sessions;
  for (uint64_t i = 0; i < 4; ++i) {
    sessions.emplace_back(context);
    sessions.back().add_anchor();
    sessions.back().add_chunk(tsr::Chunk(context, digits(9, i % 2), lazy));
    sessions.back().add_text("?");
  }
  for (const bool fails : {true, false}) {
    remote::set_faults({.fail_step_after = fails ? 0 : -1, .delay_us = 20'000});
    for (tsr::Session& session : sessions) session.generate(greedy(2));
    for (tsr::Session& session : sessions) {
      EXPECT_EQ(read(session).status, fails ? TSR_INTERNAL : TSR_OK);
    }
    expect_idle(context);
  }
}

TEST_P(Faults, AKilledWorkerEndsAllSessions) {
  expect_works();
  {
    const tsr::Model model = load_model("remote");
    const tsr::Context context(model, small());
    std::vector<tsr::Session> sessions;
    for (uint64_t i = 0; i < 5; ++i) {
      sessions.emplace_back(context);
      sessions.back().add_text(digits(30, i));
    }
    for (tsr::Session& session : sessions) session.generate(greedy(600));
    sessions[0].next();
    remote::kill_all_workers();
    for (tsr::Session& session : sessions) EXPECT_EQ(read(session).status, TSR_DEVICE_LOST);
    EXPECT_EQ(remote::remote_report().lost_devices, 1u);
    expect_idle(context);
  }
  expect_nothing_left();
  expect_works();
}

// Whoever waits for the device is told, whatever the wait.
TEST_P(Faults, AKilledWorkerEndsWaits) {
  {
    const tsr::Model model = load_model("remote");
    const tsr::Context context(model, small());
    remote::set_faults({.delay_us = 100'000});
    const tsr::Chunk chunk(context, digits(100, 1));
    tsr::Session session(context);
    session.add_text(digits(100, 2));
    tsr_status waited = TSR_OK, evaluated = TSR_OK;
    std::thread waiting([&] { waited = tsr_chunk_wait(chunk.get(), TSR_WAIT_FOREVER); });
    std::thread evaluating([&] {
      std::vector<float> row(model.info().vocabulary);
      uint64_t count = 0;
      evaluated =
          tsr_session_evaluate(session.get(), TSR_LOGITS_LAST, row.data(), row.size(), &count);
    });
    while (remote::remote_report().steps == 0) std::this_thread::yield();
    remote::kill_all_workers();
    waiting.join();
    evaluating.join();
    EXPECT_EQ(waited, TSR_DEVICE_LOST);
    EXPECT_EQ(evaluated, TSR_DEVICE_LOST);
  }
  expect_nothing_left();
}

// One context's device is lost; another model's is not.
TEST_P(Faults, OtherDevicesGoOn) {
  Everything lost, other;
  for (Everything* all : {&lost, &other}) {
    load(*all);
    prepare(*all);
  }
  remote::set_faults({.lose_device_after = 0});
  EXPECT_EQ(ask(lost).status, TSR_DEVICE_LOST);
  EXPECT_EQ(ask(other).status, TSR_OK);
}

// Also one that nobody waited for.
TEST_P(Faults, AFailedEncodingIsToldOnce) {
  Everything all;
  load(all);
  all.context.emplace(*all.model, small(64));
  remote::set_faults({.fail_step_after = 0});
  all.chunk.emplace(*all.context, digits(20, 1));
  wait_until_idle(*all.context);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(all.chunk->info().state, TSR_CHUNK_FAILED);
    std::string message;
    EXPECT_EQ(status_of([&] { all.chunk->wait(0); }, &message), TSR_INTERNAL);
    EXPECT_NE(message.find("injected"), std::string::npos) << message;
    if (round == 0) {  // the second try fails, too
      remote::set_faults({.fail_step_after = 0});
      EXPECT_EQ(status_of([&] { all.chunk->wait(); }), TSR_INTERNAL);
      remote::set_faults({.fail_step_after = 0});
      all.session.emplace(*all.context);
      all.session->add_chunk(*all.chunk);
      EXPECT_EQ(ask(all).status, TSR_INTERNAL) << "a use tries again, and fails";
      wait_until_idle(*all.context);
    }
  }
  EXPECT_TRUE(all.chunk->wait());
  EXPECT_EQ(all.chunk->info().state, TSR_CHUNK_READY);
}

TEST_P(Faults, DestroyingAChunkEndsItsWaits) {
  Everything all;
  load(all);
  all.context.emplace(*all.model, small(64));
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  all.chunk.emplace(*all.context, digits(100, 1), lazy);
  const tsr::Chunk same(*all.context, digits(100, 1), lazy);
  remote::set_faults({.delay_us = 200'000});
  std::vector<std::thread> waiting;
  std::vector<tsr_status> waited(2, TSR_OK);
  for (tsr_status& status : waited) {
    waiting.emplace_back(
        [&, chunk = all.chunk->get()] { status = tsr_chunk_wait(chunk, TSR_WAIT_FOREVER); });
  }
  while (remote::remote_report().steps == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  all.chunk.reset();
  for (std::thread& thread : waiting) thread.join();
  EXPECT_EQ(waited, std::vector<tsr_status>(2, TSR_CANCELLED));
  EXPECT_EQ(same.info().state, TSR_CHUNK_PENDING) << "the encoding goes on for the other handle";
  remote::set_faults({});
  EXPECT_TRUE(same.wait());
}

TEST_P(Faults, TheReportOfAPromptThatFailed) {
  Everything all;
  load(all);
  all.context.emplace(*all.model, small(64));
  all.session.emplace(*all.context);
  all.session->add_text(digits(100, 1));
  remote::set_faults({.fail_step_after = 3});
  EXPECT_EQ(ask(all).status, TSR_INTERNAL);
  EXPECT_EQ(all.session->report().tokens_computed, 48u);
  EXPECT_EQ(ask(all).status, TSR_OK);
  EXPECT_EQ(all.session->report().tokens_exact, 48u);
}

// The application's lock may be held by a thread that is inside a call.
TEST_P(Faults, TheLogIsCalledWithoutTheContextsLock) {
  struct App {
    std::atomic<bool> logging{false}, answered{false}, waited_in_vain{false};
    std::string message;
  } app;
  tsr::RuntimeOptions options;
  options.log_user_data = &app;
  options.log = [](void* user_data, tsr_log_level, const char* message, uint64_t length) {
    App& to = *static_cast<App*>(user_data);
    to.message.assign(message, length);
    to.logging = true;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!to.answered && !to.waited_in_vain) {
      if (std::chrono::steady_clock::now() > end) to.waited_in_vain = true;
      std::this_thread::yield();
    }
  };
  const tsr::Runtime runtime(options);
  tsr::ModelOptions on_remote;
  on_remote.device = "remote";
  on_remote.device_length = TSR_NUL_TERMINATED;
  const tsr::Model model(runtime, model_path(), on_remote);
  const tsr::Context context(model, small(64));
  tsr::Session session(context);
  session.add_text("a prompt");
  remote::set_faults({.fail_step_after = 0});
  session.generate(greedy(4));
  while (!app.logging) std::this_thread::yield();
  EXPECT_EQ(session.info().tokens, model.tokenize("a prompt").size());
  EXPECT_EQ(read(session).status, TSR_INTERNAL) << "the answer has ended by now";
  session.generate(greedy(4));
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  app.answered = true;
  EXPECT_FALSE(app.waited_in_vain);
  EXPECT_EQ(read(session).finish, TSR_FINISH_LENGTH);
  expect_idle(context);
  EXPECT_NE(app.message.find("injected"), std::string::npos) << app.message;
}

}  // namespace
}  // namespace tessera::test
