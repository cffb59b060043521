// Nine mistakes that programs make with an inference library, five of which end the process of the
// most used one. Here each has its counterpart in this API.
#include <string>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

class Peers : public AbiTest {
 protected:
  float logits[320];
  uint64_t count = 0;
};

// There: copying part of a sequence that does not fill its buffer aborts. Here: a chunk that fills
// no page stands at any place of any number of sessions.
TEST_F(Peers, PartOfASequenceElsewhere) {
  Chunk chunk;
  ASSERT_OK(tsr_chunk_create_text(context, "seven or so tokens", kNul, nullptr, chunk.out()));
  std::vector<Session> users;
  for (int offset = 0; offset < 20; ++offset) {
    users.push_back(new_session(context));
    const std::vector<int32_t> before(offset, 40);
    ASSERT_OK(tsr_session_add_tokens(users.back(), before.data(), before.size()));
    ASSERT_OK(tsr_session_add_chunk(users.back(), chunk));
    ASSERT_OK(tsr_session_add_chunk(users.back(), chunk));
    ASSERT_OK(tsr_session_add_text(users.back(), "and", 3, 0));
    const tsr_generate_options two = exactly(2);
    ASSERT_OK(tsr_session_generate(users.back(), &two));
  }
  for (const Session& user : users) EXPECT_EQ(read_answer(user).tokens, 2u);
}

// There: a sequence number out of range aborts. Here: sessions are handles, which are checked.
TEST_F(Peers, SequenceOutOfRange) {
  for (uint64_t id : {uint64_t{1}, uint64_t{256}, uint64_t{1000000}, UINT64_MAX}) {
    const auto none = reinterpret_cast<tsr_session>(id);
    EXPECT_FAILS(tsr_session_add_text(none, "a", 1, 0), TSR_INVALID_ARGUMENT, "session");
    EXPECT_FAILS(tsr_session_generate(none, nullptr), TSR_INVALID_ARGUMENT, "session");
    tsr_session_destroy(none);
  }
}

// There: a batch longer than the batch size aborts. Here: steps are cut by the library.
TEST_F(Peers, BatchLongerThanAStep) {
  tsr_context_options options = small_context();
  options.max_step_tokens = 1;
  for (uint32_t step : {1u, 3u, 16u}) {
    options.max_step_tokens = step;
    const Context context_of_steps = new_context(model, options);
    const Session longer = new_session(context_of_steps);
    const std::vector<int32_t> prompt(100, 40);
    ASSERT_OK(tsr_session_add_tokens(longer, prompt.data(), prompt.size()));
    EXPECT_OK(tsr_session_evaluate(longer, 0, logits, 320, &count));
    EXPECT_EQ(count, 320u);
  }
}

// There: a sampler chain that leaves no token throws through C. Here: the likeliest always stays.
TEST_F(Peers, SamplersThatLeaveNothing) {
  ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  for (float temperature : {1e-45f, 1.0f, 1000.0f}) {
    tsr_generate_options options = exactly(4);
    options.temperature = temperature;
    options.top_k = 1;
    options.top_p = 1e-45f;
    options.min_p = 1;
    ASSERT_OK(tsr_session_generate(session, &options));
    const Answer answer = read_answer(session);
    EXPECT_EQ(answer.status, TSR_OK) << answer.error;
    EXPECT_EQ(answer.tokens, 4u);
    options.top_k = UINT32_MAX;
    options.top_p = 1;
    ASSERT_OK(tsr_session_generate(session, &options));
    EXPECT_EQ(read_answer(session).tokens, 4u);
  }
}

// There: dividing positions by zero ends in SIGFPE. Here: zero means default in every field.
TEST_F(Peers, ZeroEverywhere) {
  const tsr_context_options options = prepared(tsr_context_options_init);
  const Context defaults = new_context(model, options);
  const tsr_session_options session_options = prepared(tsr_session_options_init);
  Session made;
  ASSERT_OK(tsr_session_create(defaults, &session_options, made.out()));
  ASSERT_OK(tsr_session_add_text(made, "a prompt", kNul, 0));
  const tsr_generate_options generate = prepared(tsr_generate_options_init);
  ASSERT_OK(tsr_session_generate(made, &generate));
  const Answer answer = read_answer(made);
  EXPECT_TRUE(answer.finish == TSR_FINISH_END || answer.finish == TSR_FINISH_LENGTH);
  EXPECT_LE(answer.tokens, 256u);
}

// There: a token out of range is an error number. Here: the message says which, too.
TEST_F(Peers, TokenOutOfRange) {
  for (int32_t token : {-1, 320, INT32_MAX}) {
    const int32_t tokens[] = {5, token, 6};
    EXPECT_FAILS(tsr_session_add_tokens(session, tokens, 3), TSR_INVALID_ARGUMENT, "tokens[1]",
                 std::to_string(token));
  }
  EXPECT_EQ(token_count(session), 0u);
}

// There: logits of a row that was not computed are NULL. Here: rows are asked for and counted.
TEST_F(Peers, LogitsOutOfRange) {
  EXPECT_FAILS(tsr_session_evaluate(session, 0, logits, 320, &count), TSR_INVALID_ARGUMENT,
               "empty");
  ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  const uint64_t needed = 320 * token_count(session);
  EXPECT_FAILS(tsr_session_evaluate(session, TSR_LOGITS_ALL, logits, 320, &count),
               TSR_BUFFER_TOO_SMALL, std::to_string(needed));
  EXPECT_EQ(count, needed);
  EXPECT_OK(tsr_session_evaluate(session, TSR_LOGITS_LAST, logits, 320, &count));
}

// There: a junk state is refused, too. Here: the one binary input is the model's file.
TEST_F(Peers, JunkInsteadOfState) {
  std::string junk(20000, '\0');
  uint32_t x = 1;
  for (char& byte : junk) byte = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  const std::string path = scratch("junk.gguf");
  for (const std::string& bytes : {junk, "GGUF" + junk, std::string("GGUF\3\0\0\0", 8) + junk}) {
    write_file(path, bytes);
    Model loaded;
    const tsr_status status =
        tsr_model_load(runtime, path.data(), path.size(), nullptr, loaded.out());
    EXPECT_TRUE(status == TSR_UNSUPPORTED ? returned(status, TSR_UNSUPPORTED, {path})
                                          : returned(status, TSR_CORRUPT_FILE, {path}));
  }
}

// There: a shift to negative positions silently drops tokens. Here: positions follow from what was
// added; negative numbers have no meaning anywhere else either.
TEST_F(Peers, NegativeNumbers) {
  const int32_t negative = -5;
  EXPECT_FAILS(tsr_session_add_tokens(session, &negative, 1), TSR_INVALID_ARGUMENT, "tokens[0]");
  tsr_event event = prepared(tsr_event_init);
  EXPECT_FAILS(tsr_session_next(session, -5, &event), TSR_INVALID_ARGUMENT, "timeout_ms");
  ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  const uint64_t before = token_count(session);
  tsr_generate_options options = exactly(static_cast<uint32_t>(-5));
  EXPECT_FAILS(tsr_session_generate(session, &options), TSR_CAPACITY, "max_tokens");
  options = exactly(4);
  options.temperature = -5;
  EXPECT_FAILS(tsr_session_generate(session, &options), TSR_INVALID_ARGUMENT, "temperature");
  EXPECT_EQ(token_count(session), before);
}

}  // namespace
}  // namespace tsr_test
