// What every misuse test stands on: the tiny model loaded once, a small context and session of its
// own for each test, and the check that the library still works afterwards.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <utility>

#include "tessera/tessera.h"

namespace tsr_test {

// A struct set up by its _init call: prepared(tsr_event_init).
template <typename T>
T prepared(tsr_status (*init)(T*, uint32_t)) {
  T value;
  EXPECT_EQ(init(&value, sizeof value), TSR_OK) << tsr_last_error();
  return value;
}

// A handle that is given back at the end of the scope.
template <typename H, void (*kDestroy)(H)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(H handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() { reset(); }
  operator H() const { return handle_; }
  H* out() {
    reset();
    return &handle_;
  }
  void reset() {  // no call where there is nothing: the message of a failed one is kept
    if (handle_ != nullptr) kDestroy(std::exchange(handle_, nullptr));
  }

 private:
  H handle_ = nullptr;
};
using Runtime = Owned<tsr_runtime, tsr_runtime_destroy>;
using Model = Owned<tsr_model, tsr_model_destroy>;
using Context = Owned<tsr_context, tsr_context_destroy>;
using Chunk = Owned<tsr_chunk, tsr_chunk_destroy>;
using Session = Owned<tsr_session, tsr_session_destroy>;

// Whether a call returned `want` and its message contains every one of `mentions`. A failure's
// message is never empty, that of a success always is.
::testing::AssertionResult returned(tsr_status status, tsr_status want,
                                    std::initializer_list<std::string> mentions);
#define EXPECT_FAILS(call, want, ...) \
  EXPECT_TRUE(::tsr_test::returned((call), (want), {__VA_ARGS__})) << "from " #call
#define EXPECT_OK(call) EXPECT_TRUE(::tsr_test::returned((call), TSR_OK, {})) << "from " #call
#define ASSERT_OK(call) ASSERT_TRUE(::tsr_test::returned((call), TSR_OK, {})) << "from " #call

// How an answer ended and what it said.
struct Answer {
  tsr_status status = TSR_OK;  // of the tsr_session_next that failed, or of a FAILED event
  tsr_finish finish = TSR_FINISH_NONE;
  uint64_t tokens = 0;
  std::string text;
  std::string error;
};
// Reads the answer under way to its end, waiting at most 60 s for each event.
Answer read_answer(tsr_session session);

// Greedy, `max_tokens`, end tokens ignored: how long the answer gets is known.
tsr_generate_options exactly(uint32_t max_tokens);

// Small budget, small steps: the test's pages are few and cancel is looked at often.
tsr_context_options small_context();
Context new_context(tsr_model model, const tsr_context_options& options);
Session new_session(tsr_context context, uint32_t event_capacity = 0);

uint64_t token_count(tsr_session session);

// Adds text and generates four tokens in a new session.
::testing::AssertionResult works(tsr_context context);

// `context` and `session` belong to the test; runtime and model to the program.
class AbiTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  // A session in the middle of an answer that cannot end by itself: its one event is not read.
  Session generating(tsr_context context);

  static Runtime runtime;
  static Model model;
  Context context;
  Session session;
};

}  // namespace tsr_test
