// Any call from any thread at any time.
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

using Clock = std::chrono::steady_clock;

class Threads : public EngineTest {};
TESSERA_ON_EACH_DEVICE(Threads);

// Handles that all threads see; one may be destroyed while another thread uses it.
struct Shared {
  tsr_context context;
  std::array<std::atomic<tsr_session>, 6> sessions{};
  std::array<std::atomic<tsr_chunk>, 3> chunks{};
  std::atomic<uint64_t> answers{0}, calls{0};
};

class Worker {
 public:
  Worker(Shared& shared, uint64_t seed) : shared_(shared), random_(seed) {}

  void run(Clock::time_point end) {
    while (Clock::now() < end) {
      one_call();
      ++shared_.calls;
    }
  }

 private:
  void one_call() {
    std::atomic<tsr_session>& place = shared_.sessions[random_.below(shared_.sessions.size())];
    const tsr_session session = place.load();
    switch (random_.below(14)) {
      case 0:  // sessions live long enough to answer now and then
        if (session == nullptr || random_.one_in(40)) create_session(place);
        return;
      case 1:
        if (random_.one_in(40)) tsr_session_destroy(place.exchange(nullptr));
        return;
      case 2:
        if (random_.one_in(5)) create_chunk();
        return;
      case 3:
        if (random_.one_in(20)) tsr_chunk_destroy(chunk_place().exchange(nullptr));
        return;
      case 4:
        return check(tsr_session_add_chunk(session, chunk_place().load()));
      case 5:
        return check(tsr_session_add_text(session, "some text 123", TSR_NUL_TERMINATED, 0));
      case 6:
      case 7:
        return generate(session);
      case 8:
        if (random_.one_in(4)) check(tsr_session_cancel(session));
        return;
      case 9: {
        tsr::SessionInfo info;
        return check(tsr_session_get_info(session, &info));
      }
      case 10: {
        int32_t tokens[64];
        uint64_t count = 0;
        return check(tsr_session_get_tokens(session, tokens, 64, &count));
      }
      case 11: {
        tsr_session ready = nullptr;
        return check(tsr_context_wait(shared_.context, 1, &ready));
      }
      case 12:
        return check(tsr_chunk_wait(chunk_place().load(), 1));
      default:
        return read_some(session);
    }
  }

  std::atomic<tsr_chunk>& chunk_place() {
    return shared_.chunks[random_.below(shared_.chunks.size())];
  }

  void create_session(std::atomic<tsr_session>& place) {
    tsr::SessionOptions options;
    options.repair = random_.one_in(3) ? TSR_REPAIR_FULL : TSR_REPAIR_NONE;
    options.event_capacity = static_cast<uint32_t>(1 + random_.below(8));
    tsr_session session = nullptr;
    const tsr_status status = tsr_session_create(shared_.context, &options, &session);
    EXPECT_EQ(status, TSR_OK);
    if (status == TSR_OK) tsr_session_destroy(place.exchange(session));
  }

  void create_chunk() {
    const std::string text = digits(5 + random_.below(30), random_.below(3));
    tsr::ChunkOptions options;
    options.flags = random_.one_in(2) ? TSR_CHUNK_LAZY : 0;
    tsr_chunk chunk = nullptr;
    const tsr_status status =
        tsr_chunk_create_text(shared_.context, text.data(), text.size(), &options, &chunk);
    EXPECT_EQ(status, TSR_OK);
    if (status == TSR_OK) tsr_chunk_destroy(chunk_place().exchange(chunk));
  }

  void generate(tsr_session session) {
    tsr::GenerateOptions options = drawn(static_cast<uint32_t>(1 + random_.below(20)), 1);
    options.lookup_tokens = static_cast<uint32_t>(random_.below(6));
    options.logprobs = static_cast<uint32_t>(random_.below(3));
    options.presence_penalty = random_.one_in(2) ? 1 : 0;
    check(tsr_session_generate(session, &options));
  }

  void read_some(tsr_session session) {
    for (int i = 0; i < 30; ++i) {
      tsr::Event event;
      const tsr_status status = tsr_session_next(session, 1, &event);
      check(status);
      if (status != TSR_OK || event.kind == TSR_EVENT_NONE) return;
      EXPECT_NE(event.kind, TSR_EVENT_FAILED) << std::string(event.text());
      shared_.answers += event.kind == TSR_EVENT_DONE;
    }
  }

  // Another thread's session or chunk may be gone, busy or full; nothing else may be wrong.
  static void check(tsr_status status) {
    switch (status) {
      case TSR_OK:
      case TSR_INVALID_ARGUMENT:
      case TSR_BUSY:
      case TSR_CAPACITY:
      case TSR_CANCELLED:
      case TSR_TIMEOUT:
      case TSR_BUFFER_TOO_SMALL:
        return;
      default:
        ADD_FAILURE() << tsr_status_name(status) << ": " << tsr_last_error();
    }
  }

  Shared& shared_;
  Random random_;
};

void run(const tsr::Context& context, int milliseconds, uint64_t seed) {
  Shared shared;
  shared.context = context.get();
  const auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&shared, end, i, seed] { Worker(shared, 10 * seed + i).run(end); });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& session : shared.sessions) tsr_session_destroy(session.exchange(nullptr));
  for (auto& chunk : shared.chunks) tsr_chunk_destroy(chunk.exchange(nullptr));
  EXPECT_GT(shared.answers, 5u) << "of " << shared.calls << " calls";
  expect_only_caches(context);
}

TEST_P(Threads, AnythingAtAnyTime) {
  tsr::ContextOptions options = small(60);
  options.max_session_tokens = 300;
  run(context(options), 1500, 1);
}

class FullThreads : public EngineTest {};
TESSERA_ON_EACH_DEVICE(FullThreads);

TEST_P(FullThreads, ForLonger) {
  for (uint64_t seed = 2; seed < 12; ++seed) {
    tsr::ContextOptions options = small(20 + 10 * seed);
    options.max_session_tokens = 300;
    options.threads = 1 + seed % 2;
    run(context(options), 3000, seed);
  }
}

TEST_P(Threads, NoThreadLeftForTheEngine) {
  tsr::Model& loaded = model();
  pthread_attr_t before, huge;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  ASSERT_EQ(pthread_getattr_default_np(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 47), 0);  // more than addresses
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  std::string message;
  const tsr_status status = status_of([&] { tsr::Context(loaded, small()); }, &message);
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  EXPECT_EQ(status, TSR_OUT_OF_HOST_MEMORY) << message;
  EXPECT_NE(message.find("thread"), std::string::npos) << message;
  tsr::Session session{context()};
  session.add_text("goes on");
  EXPECT_EQ(generate(session, greedy(2)).size(), 2u);
}

}  // namespace
}  // namespace tessera::test
