// Sessions, chunks and contexts used in the wrong order, at the wrong time or beyond their limits.
#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

class SessionMisuse : public AbiTest {
 protected:
  tsr_status create(const tsr_context_options& options) {
    Context made;
    return tsr_context_create(model, &options, made.out());
  }
};

TEST_F(SessionMisuse, ContextOptionsThatCannotBe) {
  for (uint32_t size : {1u, 7u, 12u, 17u, 128u, UINT32_MAX}) {
    tsr_context_options options = small_context();
    options.page_size = size;
    EXPECT_FAILS(create(options), TSR_INVALID_ARGUMENT, "page_size", std::to_string(size), "16");
  }
  for (uint32_t size : {0u, 8u, 16u, 32u, 64u}) {
    tsr_context_options options = small_context();
    options.page_size = size;
    EXPECT_OK(create(options));
  }
  for (uint64_t budget : {uint64_t{1}, uint64_t{100}, uint64_t{255}}) {
    tsr_context_options options = small_context();
    options.kv_budget = budget;
    EXPECT_FAILS(create(options), TSR_CAPACITY, "kv_budget", std::to_string(budget));
  }
  for (uint64_t budget : {UINT64_MAX, UINT64_C(1) << 62}) {
    tsr_context_options options = small_context();
    options.kv_budget = budget;  // more than any machine has: refused, or never used up
    const tsr_status status = create(options);
    EXPECT_TRUE(status == TSR_OK || status == TSR_OUT_OF_HOST_MEMORY || status == TSR_CAPACITY ||
                status == TSR_INVALID_ARGUMENT)
        << tsr_status_name(status);
  }
  tsr_context_options options = small_context();
  options.max_session_tokens = UINT32_MAX;
  EXPECT_FAILS(create(options), TSR_INVALID_ARGUMENT, "max_session_tokens", "1024");
  options = small_context();
  options.threads = UINT32_MAX;
  EXPECT_FAILS(create(options), TSR_INVALID_ARGUMENT, "threads");
  options = small_context();
  options.max_step_tokens = UINT32_MAX;  // a step is never longer than what there is to compute
  const tsr_status status = create(options);
  EXPECT_TRUE(status == TSR_OK || status == TSR_INVALID_ARGUMENT) << tsr_status_name(status);
}

TEST_F(SessionMisuse, AnchorAndPrimerBeyondTheBudget) {
  const std::string text(900, 'z');  // about 900 tokens
  tsr_context_options options = small_context();
  options.kv_budget = 64 << 10;  // 256 tokens of 256 bytes
  options.anchor = text.data();
  options.anchor_length = text.size();
  EXPECT_FAILS(create(options), TSR_CAPACITY, "kv_budget");
  options.anchor = nullptr;
  options.anchor_length = 0;
  options.primer = text.data();
  options.primer_length = text.size();
  EXPECT_FAILS(create(options), TSR_CAPACITY, "kv_budget");
  options = small_context();
  options.max_session_tokens = 64;
  options.anchor = text.data();
  options.anchor_length = text.size();
  EXPECT_FAILS(create(options), TSR_CAPACITY, "anchor");
}

TEST_F(SessionMisuse, AnchorTwiceLateOrMissing) {
  EXPECT_FAILS(tsr_session_add_anchor(session), TSR_INVALID_ARGUMENT, "anchor");
  tsr_context_options options = small_context();
  options.anchor = "the anchor";
  options.anchor_length = kNul;
  const Context anchored = new_context(model, options);
  const Session twice = new_session(anchored);
  ASSERT_OK(tsr_session_add_anchor(twice));
  const uint64_t length = token_count(twice);
  EXPECT_GT(length, 0u);
  EXPECT_FAILS(tsr_session_add_anchor(twice), TSR_INVALID_ARGUMENT, "anchor", "first");
  EXPECT_EQ(token_count(twice), length);
  const Session late = new_session(anchored);
  ASSERT_OK(tsr_session_add_text(late, "text", 4, 0));
  EXPECT_FAILS(tsr_session_add_anchor(late), TSR_INVALID_ARGUMENT, "anchor", "first");
  EXPECT_TRUE(works(anchored));
}

TEST_F(SessionMisuse, ChunkOfAnotherContext) {
  const Context other = new_context(model, small_context());
  Chunk foreign;
  ASSERT_OK(tsr_chunk_create_text(other, "elsewhere", kNul, nullptr, foreign.out()));
  EXPECT_FAILS(tsr_session_add_chunk(session, foreign), TSR_INVALID_ARGUMENT, "chunk", "context");
  EXPECT_EQ(token_count(session), 0u);
  EXPECT_TRUE(works(other));
}

TEST_F(SessionMisuse, ChunksThatAreNotThereOrInUse) {
  tsr_chunk_id id = {1, 2};
  Chunk chunk, again;
  EXPECT_FAILS(tsr_chunk_open(context, &id, again.out()), TSR_NOT_FOUND, "id");
  ASSERT_OK(tsr_chunk_create_text(context, "a chunk", kNul, nullptr, chunk.out()));
  uint64_t count = 0;
  tsr_chunk_id none = {};
  EXPECT_OK(tsr_context_list_chunks(context, &id, 1, &count));
  EXPECT_EQ(count, 1u);
  Chunk other;
  ASSERT_OK(tsr_chunk_create_text(context, "another", kNul, nullptr, other.out()));
  EXPECT_FAILS(tsr_context_list_chunks(context, &none, 1, &count), TSR_BUFFER_TOO_SMALL, "ids",
               "2");
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(none.low, 0u);
  {
    const Session user = new_session(context);
    ASSERT_OK(tsr_session_add_chunk(user, chunk));
    ASSERT_OK(tsr_session_add_text(user, "?", 1, 0));
    const tsr_generate_options two = exactly(2);
    ASSERT_OK(tsr_session_generate(user, &two));
    EXPECT_EQ(read_answer(user).tokens, 2u);
    EXPECT_FAILS(tsr_chunk_drop(chunk, 0), TSR_BUSY, "sessions: 1");
    EXPECT_OK(tsr_chunk_drop(chunk, TSR_DROP_DISK));
  }
  EXPECT_OK(tsr_chunk_drop(chunk, TSR_DROP_MEMORY));
  EXPECT_OK(tsr_chunk_drop(chunk, 0));
  chunk.reset();
  EXPECT_FAILS(tsr_chunk_open(context, &id, again.out()), TSR_NOT_FOUND, "id");
  EXPECT_TRUE(works(context));
}

TEST_F(SessionMisuse, ChunkLargerThanTheBudget) {
  tsr_context_options options = small_context();
  options.kv_budget = 32 << 10;  // 128 tokens of 256 bytes
  const Context tight = new_context(model, options);
  const std::string text(600, 'q');
  Chunk chunk;
  EXPECT_FAILS(tsr_chunk_create_text(tight, text.data(), text.size(), nullptr, chunk.out()),
               TSR_CAPACITY, "bytes");
  EXPECT_TRUE(works(tight));
}

// What a request needs is reserved before anything is computed; a refused one changes nothing.
TEST_F(SessionMisuse, RequestsBeyondTheBudget) {
  tsr_context_options options = small_context();
  options.kv_budget = 32 << 10;
  const Context tight = new_context(model, options);
  const Session big = new_session(tight);
  ASSERT_OK(tsr_session_add_text(big, "a prompt", kNul, 0));
  const uint64_t before = token_count(big);
  tsr_generate_options generate = exactly(500);
  EXPECT_FAILS(tsr_session_generate(big, &generate), TSR_CAPACITY, "bytes");
  EXPECT_EQ(token_count(big), before);
  generate = exactly(2000);
  EXPECT_FAILS(tsr_session_generate(big, &generate), TSR_CAPACITY, "1024");
  generate = exactly(UINT32_MAX);
  EXPECT_FAILS(tsr_session_generate(big, &generate), TSR_CAPACITY, "1024");
  EXPECT_EQ(token_count(big), before);
  generate = exactly(8);
  ASSERT_OK(tsr_session_generate(big, &generate));
  EXPECT_EQ(read_answer(big).tokens, 8u);
  // Two that fit alone but not together: the second is refused while the first runs.
  generate = exactly(60);
  Session holds = new_session(tight, 1), waits = new_session(tight);
  ASSERT_OK(tsr_session_add_text(holds, "one", 3, 0));
  ASSERT_OK(tsr_session_add_text(waits, "two", 3, 0));
  ASSERT_OK(tsr_session_generate(holds, &generate));
  EXPECT_FAILS(tsr_session_generate(waits, &generate), TSR_CAPACITY, "bytes");
  holds.reset();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (tsr_session_generate(waits, &generate) == TSR_CAPACITY) {  // given back by the engine
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
  EXPECT_EQ(read_answer(waits).tokens, 60u);
}

TEST_F(SessionMisuse, NothingToGenerateOrEvaluateFrom) {
  std::vector<float> first(320), again(320);
  uint64_t count = 0;
  EXPECT_FAILS(tsr_session_generate(session, nullptr), TSR_INVALID_ARGUMENT, "session", "empty");
  for (uint64_t capacity : {0, 320}) {
    EXPECT_FAILS(tsr_session_evaluate(session, 0, first.data(), capacity, &count),
                 TSR_INVALID_ARGUMENT, "session", "empty");
  }
  ASSERT_OK(tsr_session_add_text(session, "text", 4, 0));
  EXPECT_OK(tsr_session_evaluate(session, 0, first.data(), 320, &count));
  EXPECT_EQ(count, 320u);
  // With nothing added since, the same row: the last token's.
  EXPECT_OK(tsr_session_evaluate(session, 0, again.data(), 320, &count));
  for (size_t i = 0; i < first.size(); ++i) ASSERT_NEAR(first[i], again[i], 1e-3) << i;
}

TEST_F(SessionMisuse, EverythingWhileGenerating) {
  Chunk chunk;
  ASSERT_OK(tsr_chunk_create_text(context, "a chunk", kNul, nullptr, chunk.out()));
  const Session busy = generating(context);
  float logits[320];
  uint64_t count = 0;
  const int32_t token = 5;
  EXPECT_FAILS(tsr_session_generate(busy, nullptr), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_add_text(busy, "more", 4, 0), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_add_tokens(busy, &token, 1), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_add_chunk(busy, chunk), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_open_role(busy, TSR_ROLE_USER), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_close_role(busy, TSR_ROLE_USER), TSR_BUSY, "under way");
  EXPECT_FAILS(tsr_session_evaluate(busy, 0, logits, 320, &count), TSR_BUSY, "under way");
  tsr_session_info info = prepared(tsr_session_info_init);
  EXPECT_OK(tsr_session_get_info(busy, &info));
  EXPECT_EQ(info.generating, 1);
  tsr_report report = prepared(tsr_report_init);
  EXPECT_OK(tsr_session_get_report(busy, &report));
  EXPECT_OK(tsr_session_cancel(busy));
  EXPECT_EQ(read_answer(busy).finish, TSR_FINISH_CANCELLED);
  EXPECT_OK(tsr_session_get_info(busy, &info));
  EXPECT_EQ(info.generating, 0);
  EXPECT_OK(tsr_session_add_text(busy, "more", 4, 0));
}

TEST_F(SessionMisuse, Timeouts) {
  tsr_event event = prepared(tsr_event_init);
  for (int64_t timeout : {int64_t{0}, int64_t{5}, TSR_WAIT_FOREVER, INT64_MAX}) {
    EXPECT_OK(tsr_session_next(session, timeout, &event));
    EXPECT_EQ(event.kind, TSR_EVENT_NONE);
  }
  for (int64_t timeout : {int64_t{-2}, INT64_MIN}) {
    EXPECT_FAILS(tsr_session_next(session, timeout, &event), TSR_INVALID_ARGUMENT, "timeout_ms");
    tsr_session ready = nullptr;
    EXPECT_FAILS(tsr_context_wait(context, timeout, &ready), TSR_INVALID_ARGUMENT, "timeout_ms");
    EXPECT_FAILS(tsr_context_flush(context, timeout), TSR_INVALID_ARGUMENT, "timeout_ms");
    Chunk small;
    ASSERT_OK(tsr_chunk_create_text(context, "a", 1, nullptr, small.out()));
    EXPECT_FAILS(tsr_chunk_wait(small, timeout), TSR_INVALID_ARGUMENT, "timeout_ms");
  }
  // The longest timeout is a long one, not one that overflows into the past.
  const std::string text(900, 'l');
  Chunk chunk;
  ASSERT_OK(tsr_chunk_create_text(context, text.data(), text.size(), nullptr, chunk.out()));
  EXPECT_OK(tsr_chunk_wait(chunk, INT64_MAX));
  const Session busy = generating(context);
  EXPECT_OK(tsr_session_next(busy, INT64_MAX, &event));
  EXPECT_NE(event.kind, TSR_EVENT_NONE);
  tsr_session ready = nullptr;
  EXPECT_OK(tsr_context_wait(context, INT64_MAX, &ready));
  EXPECT_EQ(ready, static_cast<tsr_session>(busy));
  EXPECT_OK(tsr_session_cancel(busy));
  read_answer(busy);
  ready = nullptr;
  EXPECT_FAILS(tsr_context_wait(context, 0, &ready), TSR_TIMEOUT);
  EXPECT_FAILS(tsr_context_wait(context, 3, &ready), TSR_TIMEOUT);
  EXPECT_EQ(ready, nullptr);
}

TEST_F(SessionMisuse, CancelWhenIdle) {
  for (int i = 0; i < 3; ++i) EXPECT_OK(tsr_session_cancel(session));
  // It must not reach the next answer.
  ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  const tsr_generate_options four = exactly(4);
  ASSERT_OK(tsr_session_generate(session, &four));
  EXPECT_EQ(read_answer(session).finish, TSR_FINISH_LENGTH);
  EXPECT_OK(tsr_session_cancel(session));
  ASSERT_OK(tsr_session_generate(session, &four));
  EXPECT_EQ(read_answer(session).finish, TSR_FINISH_LENGTH);
}

TEST_F(SessionMisuse, CancelDuringThePrompt) {
  const std::vector<int32_t> prompt(500, 40);
  ASSERT_OK(tsr_session_add_tokens(session, prompt.data(), prompt.size()));
  const tsr_generate_options options = exactly(400);
  for (int i = 0; i < 3; ++i) {  // cancelled at once each time, it stays usable
    ASSERT_OK(tsr_session_generate(session, &options));
    ASSERT_OK(tsr_session_cancel(session));
    ASSERT_OK(tsr_session_cancel(session));
    EXPECT_EQ(read_answer(session).finish, TSR_FINISH_CANCELLED);
    if (token_count(session) > 600) break;
  }
  const tsr_generate_options four = exactly(4);
  ASSERT_OK(tsr_session_generate(session, &four));
  EXPECT_EQ(read_answer(session).finish, TSR_FINISH_LENGTH);
}

TEST_F(SessionMisuse, CancelDuringTheAnswer) {
  const Session busy = generating(context);
  tsr_event event = prepared(tsr_event_init);
  do {
    ASSERT_OK(tsr_session_next(busy, 10'000, &event));
  } while (event.kind == TSR_EVENT_PROGRESS);
  ASSERT_EQ(event.kind, TSR_EVENT_TEXT);
  for (int i = 0; i < 100; ++i) EXPECT_OK(tsr_session_cancel(busy));
  const Answer answer = read_answer(busy);
  EXPECT_EQ(answer.finish, TSR_FINISH_CANCELLED);
  EXPECT_GE(answer.tokens, 1u);
  EXPECT_LT(answer.tokens, 500u);
  // What was generated stays.
  const uint64_t tokens = token_count(busy);
  tsr_report report = prepared(tsr_report_init);
  ASSERT_OK(tsr_session_get_report(busy, &report));
  EXPECT_EQ(report.tokens_generated, answer.tokens);
  EXPECT_GT(tokens, answer.tokens);
}

// A reader that takes its time, with room for one event, gets the text that a quick one gets.
TEST_F(SessionMisuse, SlowReader) {
  std::string texts[2];
  for (int slow : {0, 1}) {
    const Session reader = new_session(context, slow ? 1 : 0);
    ASSERT_OK(tsr_session_add_text(reader, "tell me a story", kNul, 0));
    tsr_generate_options options = exactly(48);
    options.temperature = 1;
    options.seed = 3;
    ASSERT_OK(tsr_session_generate(reader, &options));
    tsr_event event = prepared(tsr_event_init);
    do {
      if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ASSERT_OK(tsr_session_next(reader, 10'000, &event));
      ASSERT_NE(event.kind, TSR_EVENT_NONE);
      if (event.kind == TSR_EVENT_TEXT) texts[slow].append(event.text, event.text_length);
    } while (event.kind != TSR_EVENT_DONE);
    EXPECT_EQ(event.finish, TSR_FINISH_LENGTH);
  }
  EXPECT_FALSE(texts[0].empty());
  EXPECT_EQ(texts[0], texts[1]);
}

// A session that nobody reads pauses alone: others of the context go on.
TEST_F(SessionMisuse, UnreadSessionsDoNotStopOthers) {
  std::vector<Session> unread;
  for (int i = 0; i < 8; ++i) unread.push_back(generating(context));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(works(context));
}

TEST_F(SessionMisuse, TwoHundredSessions) {
  std::vector<Session> sessions;
  const tsr_generate_options three = exactly(3);
  for (int i = 0; i < 200; ++i) {
    sessions.push_back(new_session(context));
    const std::string prompt = "prompt number " + std::to_string(i);
    ASSERT_OK(tsr_session_add_text(sessions.back(), prompt.data(), prompt.size(), 0));
    ASSERT_OK(tsr_session_generate(sessions.back(), &three));
  }
  size_t done = 0;
  while (done < sessions.size()) {
    tsr_session ready = nullptr;
    ASSERT_OK(tsr_context_wait(context, 30'000, &ready));
    ASSERT_TRUE(std::any_of(sessions.begin(), sessions.end(), [&](const Session& s) {
      return static_cast<tsr_session>(s) == ready;
    }));
    tsr_event event = prepared(tsr_event_init);
    ASSERT_OK(tsr_session_next(ready, 0, &event));
    ASSERT_NE(event.kind, TSR_EVENT_FAILED);
    if (event.kind == TSR_EVENT_DONE) {
      EXPECT_EQ(event.tokens, 3u);
      ++done;
    }
  }
  tsr_metrics metrics = prepared(tsr_metrics_init);
  ASSERT_OK(tsr_context_get_metrics(context, &metrics));
  EXPECT_EQ(metrics.sessions, 201u);
}

// All 120 orders of giving the five handles back, idle and in the middle of an answer.
TEST_F(SessionMisuse, DestroyInEveryOrder) {
  for (bool busy : {false, true}) {
    std::array<int, 5> order = {0, 1, 2, 3, 4};
    do {
      tsr_runtime r = nullptr;
      tsr_model m = nullptr;
      tsr_context c = nullptr;
      tsr_chunk k = nullptr;
      tsr_session s = nullptr;
      ASSERT_OK(tsr_runtime_create(nullptr, &r));
      ASSERT_OK(tsr_model_load(r, model_path().c_str(), kNul, nullptr, &m));
      const tsr_context_options options = small_context();
      ASSERT_OK(tsr_context_create(m, &options, &c));
      ASSERT_OK(tsr_chunk_create_text(c, "a chunk of text", kNul, nullptr, &k));
      tsr_session_options one = prepared(tsr_session_options_init);
      one.event_capacity = 1;
      ASSERT_OK(tsr_session_create(c, &one, &s));
      ASSERT_OK(tsr_session_add_chunk(s, k));
      ASSERT_OK(tsr_session_add_text(s, "a question", kNul, 0));
      const tsr_generate_options generate = exactly(200);
      if (busy) {
        ASSERT_OK(tsr_session_generate(s, &generate));
      }
      for (int which : order) {
        if (which == 0) tsr_runtime_destroy(r);
        if (which == 1) tsr_model_destroy(m);
        if (which == 2) tsr_context_destroy(c);
        if (which == 3) tsr_chunk_destroy(k);
        if (which == 4) tsr_session_destroy(s);
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

}  // namespace
}  // namespace tsr_test
