// Several threads at once: on one session, on handles that another thread destroys, in waits.
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

class Threads : public AbiTest {};

// A call that a thread makes and that must come back within 20 s of `interrupt`.
tsr_status interrupted(const std::function<tsr_status()>& call,
                       const std::function<void()>& interrupt) {
  std::atomic<bool> entered = false, back = false;
  tsr_status status = TSR_OK;
  std::thread caller([&] {
    entered = true;
    status = call();
    back = true;
  });
  while (!entered) std::this_thread::yield();
  std::this_thread::sleep_for(milliseconds(5));  // most likely inside the call by now
  interrupt();
  const auto deadline = steady_clock::now() + seconds(20);
  while (!back && steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(back) << "the call did not return";
  if (!back) _Exit(1);  // the thread cannot be joined
  caller.join();
  return status;
}

// Four threads on one session for a while. Each call is served or refused at once; one caller sees
// the session as if alone.
TEST_F(Threads, OneSessionServesOneCaller) {
  std::atomic<bool> stop = false;
  std::atomic<int> served = 0, busy = 0, contended = 0, odd = 0;
  const tsr_session shared = session;
  auto count = [&](tsr_status status) {
    if (status == TSR_OK || status == TSR_TIMEOUT || status == TSR_CAPACITY) {
      ++served;
    } else if (status == TSR_BUSY) {
      ++busy;
    } else {
      ++odd;
      ADD_FAILURE() << tsr_status_name(status) << ' ' << tsr_last_error();
    }
  };
  ASSERT_OK(tsr_session_add_text(shared, "a prompt", kNul, 0));
  const tsr_generate_options options = exactly(16);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<int32_t> tokens(1024);
      while (!stop && odd == 0) {
        uint64_t n = 0;
        tsr_event event = prepared(tsr_event_init);
        tsr_session_info info = prepared(tsr_session_info_init);
        if (t == 0) count(tsr_session_generate(shared, &options));
        count(tsr_session_next(shared, t == 1 ? 2 : 0, &event));
        const tsr_status looked = tsr_session_get_info(shared, &info);
        count(looked);
        contended += looked == TSR_BUSY;  // never because of a generation, so of another caller
        count(tsr_session_get_tokens(shared, tokens.data(), tokens.size(), &n));
        if (t == 2) count(tsr_session_add_text(shared, "x", 1, 0));
        if (t == 3 && tsr_session_cancel(shared) != TSR_OK) ++odd;
      }
    });
  }
  const auto start = steady_clock::now();
  while (steady_clock::now() < start + seconds(10)) {
    std::this_thread::sleep_for(milliseconds(20));
    if (contended > 5 && served > 200 && steady_clock::now() > start + milliseconds(500)) break;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(contended, 0) << busy << " refused, " << served << " served";
  EXPECT_GT(served, 0);
  EXPECT_EQ(odd, 0);
}

// Many threads, each with a session of its own, on one context that computes on two.
TEST_F(Threads, ManySessionsOnOneContext) {
  tsr_context_options options = small_context();
  options.threads = 2;
  const Context shared = new_context(model, options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) EXPECT_TRUE(works(shared));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Threads, ObjectsComeAndGoEverywhere) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        Context own = new_context(model, small_context());
        Session s = new_session(own);
        Chunk k;
        const std::string text = "text " + std::to_string(t * 10 + i);
        EXPECT_OK(tsr_chunk_create_text(own, text.data(), text.size(), nullptr, k.out()));
        EXPECT_OK(tsr_session_add_chunk(s, k));
        EXPECT_OK(tsr_session_add_text(s, "?", 1, 0));
        const tsr_generate_options two = exactly(2);
        EXPECT_OK(tsr_session_generate(s, &two));
        if (i % 2 == 0) own.reset();
        if (i % 3 == 0) k.reset();
        if (i % 5 != 0) {
          EXPECT_EQ(read_answer(s).tokens, 2u);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Two first users of one text at the same time share one encoding.
TEST_F(Threads, SameChunkFromManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        Chunk k;
        EXPECT_OK(tsr_chunk_create_text(context, "the same text", kNul, nullptr, k.out()));
        EXPECT_OK(tsr_chunk_wait(k, 10'000));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  tsr_metrics metrics = prepared(tsr_metrics_init);
  ASSERT_OK(tsr_context_get_metrics(context, &metrics));
  EXPECT_EQ(metrics.chunks, 1u);
  EXPECT_EQ(metrics.chunk_misses, 1u);
  EXPECT_EQ(metrics.chunk_hits, 79u);
}

TEST_F(Threads, MessagesBelongToTheirThread) {
  EXPECT_EQ(tsr_session_add_text(nullptr, "a", 1, 0), TSR_INVALID_ARGUMENT);
  const std::string here = tsr_last_error();
  std::thread other([] {
    EXPECT_STREQ(tsr_last_error(), "");
    EXPECT_EQ(tsr_chunk_wait(nullptr, 0), TSR_INVALID_ARGUMENT);
    EXPECT_STRNE(tsr_last_error(), "");
  });
  other.join();
  EXPECT_EQ(here, tsr_last_error());
  EXPECT_STRNE(tsr_last_error(), "");
}

TEST_F(Threads, SessionDestroyedWhileAnotherReads) {
  for (int i = 0; i < 30; ++i) {
    Session victim = generating(context);
    const tsr_session handle = victim;
    const tsr_status status = interrupted(
        [&] {
          tsr_event event = prepared(tsr_event_init);
          tsr_status s = TSR_OK;
          uint64_t bytes = 0;
          while (s == TSR_OK) {
            s = tsr_session_next(handle, TSR_WAIT_FOREVER, &event);
            if (s == TSR_OK && event.kind == TSR_EVENT_NONE) break;  // read to the end before
            if (s == TSR_OK && event.kind == TSR_EVENT_DONE) break;
            bytes += event.text_length;
          }
          return s;
        },
        [&] {
          std::this_thread::sleep_for(std::chrono::microseconds(i * 100));
          victim.reset();
        });
    EXPECT_TRUE(status == TSR_OK || status == TSR_INVALID_ARGUMENT || status == TSR_CANCELLED)
        << tsr_status_name(status);
  }
}

TEST_F(Threads, ContextDestroyedWhileWaiting) {
  Context victim = new_context(model, small_context());
  const tsr_context handle = victim;
  const tsr_status status = interrupted(
      [&] {
        tsr_session ready = nullptr;
        return tsr_context_wait(handle, TSR_WAIT_FOREVER, &ready);
      },
      [&] { victim.reset(); });
  EXPECT_TRUE(status == TSR_INVALID_ARGUMENT || status == TSR_CANCELLED) << tsr_status_name(status);
}

// The same with a session that keeps the context alive: the wait was for the handle.
TEST_F(Threads, ContextHandleDestroyedWhileWaiting) {
  Context victim = new_context(model, small_context());
  const Session user = new_session(victim);
  const tsr_context handle = victim;
  const tsr_status status = interrupted(
      [&] {
        tsr_session ready = nullptr;
        return tsr_context_wait(handle, TSR_WAIT_FOREVER, &ready);
      },
      [&] { victim.reset(); });
  EXPECT_TRUE(status == TSR_INVALID_ARGUMENT || status == TSR_CANCELLED) << tsr_status_name(status);
  ASSERT_OK(tsr_session_add_text(user, "text", 4, 0));
  const tsr_generate_options two = exactly(2);
  ASSERT_OK(tsr_session_generate(user, &two));
  EXPECT_EQ(read_answer(user).tokens, 2u);
}

TEST_F(Threads, ChunkDestroyedWhileWaiting) {
  const std::string text(900, 'w');
  for (int i = 0; i < 10; ++i) {
    Chunk victim;
    const std::string distinct = std::to_string(i) + text;
    ASSERT_OK(
        tsr_chunk_create_text(context, distinct.data(), distinct.size(), nullptr, victim.out()));
    const tsr_chunk handle = victim;
    const tsr_status status = interrupted([&] { return tsr_chunk_wait(handle, TSR_WAIT_FOREVER); },
                                          [&] { victim.reset(); });
    EXPECT_TRUE(status == TSR_OK || status == TSR_INVALID_ARGUMENT || status == TSR_CANCELLED)
        << tsr_status_name(status);
  }
}

TEST_F(Threads, CancelReachesAnEvaluation) {
  const std::vector<int32_t> prompt(1000, 40);
  std::vector<float> logits(320);
  int cancelled = 0;
  for (int i = 0; i < 50 && cancelled == 0; ++i) {
    const Session victim = new_session(context);
    ASSERT_OK(tsr_session_add_tokens(victim, prompt.data(), 990 - i));
    std::atomic<bool> entered = false, back = false;
    std::thread canceller([&] {
      while (!entered) std::this_thread::yield();
      while (!back) EXPECT_EQ(tsr_session_cancel(victim), TSR_OK);
    });
    uint64_t count = 0;
    entered = true;
    const tsr_status status = tsr_session_evaluate(victim, 0, logits.data(), 320, &count);
    back = true;
    canceller.join();
    EXPECT_TRUE(status == TSR_OK || status == TSR_CANCELLED) << tsr_last_error();
    cancelled += status == TSR_CANCELLED;
    // Whether it was stopped or not, the session can go on.
    const tsr_generate_options two = exactly(2);
    ASSERT_OK(tsr_session_generate(victim, &two));
    EXPECT_EQ(read_answer(victim).tokens, 2u);
  }
  EXPECT_GT(cancelled, 0) << "no evaluation of 50 was stopped";
}

// The log is called on several threads; its user_data arrives.
TEST_F(Threads, LogCallback) {
  std::atomic<int> lines = 0, wrong = 0;
  struct Sink {
    std::atomic<int>* lines;
    std::atomic<int>* wrong;
  } sink = {&lines, &wrong};
  tsr_runtime_options options = prepared(tsr_runtime_options_init);
  options.log_level = TSR_LOG_INFO;
  options.log_user_data = &sink;
  options.log = [](void* user_data, tsr_log_level level, const char* message, uint64_t length) {
    auto* to = static_cast<Sink*>(user_data);
    ++*to->lines;
    if (level < TSR_LOG_ERROR || level > TSR_LOG_INFO || message == nullptr || length == 0) {
      ++*to->wrong;
    }
  };
  Runtime logged;
  ASSERT_OK(tsr_runtime_create(&options, logged.out()));
  Model loaded;
  ASSERT_OK(tsr_model_load(logged, model_path().c_str(), kNul, nullptr, loaded.out()));
  EXPECT_TRUE(works(new_context(loaded, small_context())));
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(lines, 0) << "loading a model at level INFO says nothing";
}

}  // namespace
}  // namespace tsr_test
