#include "tests/abi/fixture.hpp"

#include "tests/abi/model_file.hpp"

namespace tsr_test {

Runtime AbiTest::runtime;
Model AbiTest::model;

::testing::AssertionResult returned(tsr_status status, tsr_status want,
                                    std::initializer_list<std::string> mentions) {
  const std::string message = tsr_last_error();
  auto failure = [&] {
    return ::testing::AssertionFailure() << tsr_status_name(status) << " \"" << message
                                         << "\", not " << tsr_status_name(want) << ' ';
  };
  if (status != want) return failure();
  if (message.empty() != (status == TSR_OK)) return failure() << "with a message iff it failed";
  for (const std::string& mention : mentions) {
    if (message.find(mention) == std::string::npos) {
      return failure() << "with \"" << mention << "\" in its message";
    }
  }
  return ::testing::AssertionSuccess();
}

Answer read_answer(tsr_session session) {
  Answer answer;
  tsr_event event = prepared(tsr_event_init);
  for (;;) {
    answer.status = tsr_session_next(session, 60'000, &event);
    if (answer.status != TSR_OK) {
      answer.error = tsr_last_error();
      return answer;
    }
    switch (event.kind) {
      case TSR_EVENT_TEXT:
        answer.text.append(event.text, event.text_length);
        break;
      case TSR_EVENT_DONE:
        answer.finish = event.finish;
        answer.tokens = event.tokens;
        return answer;
      case TSR_EVENT_FAILED:
        answer.status = event.status;
        answer.error.assign(event.text, event.text_length);
        return answer;
      case TSR_EVENT_NONE:
        answer.error = "nothing under way";
        return answer;
      default:
        break;
    }
  }
}

tsr_generate_options exactly(uint32_t max_tokens) {
  tsr_generate_options options = prepared(tsr_generate_options_init);
  options.max_tokens = max_tokens;
  options.flags = TSR_GENERATE_IGNORE_END;
  return options;
}

tsr_context_options small_context() {
  tsr_context_options options = prepared(tsr_context_options_init);
  options.kv_budget = 4 << 20;
  options.threads = 1;
  options.max_step_tokens = 16;
  return options;
}

Context new_context(tsr_model model, const tsr_context_options& options) {
  Context context;
  EXPECT_OK(tsr_context_create(model, &options, context.out()));
  return context;
}

Session new_session(tsr_context context, uint32_t event_capacity) {
  tsr_session_options options = prepared(tsr_session_options_init);
  options.event_capacity = event_capacity;
  Session session;
  EXPECT_OK(tsr_session_create(context, &options, session.out()));
  return session;
}

uint64_t token_count(tsr_session session) {
  tsr_session_info info = prepared(tsr_session_info_init);
  EXPECT_OK(tsr_session_get_info(session, &info));
  return info.tokens;
}

::testing::AssertionResult works(tsr_context context) {
  Session session = new_session(context);
  tsr_status status = tsr_session_add_text(session, "the answer", TSR_NUL_TERMINATED, 0);
  if (status == TSR_OK) {
    const tsr_generate_options options = exactly(4);
    status = tsr_session_generate(session, &options);
  }
  if (status != TSR_OK) return ::testing::AssertionFailure() << tsr_last_error();
  const Answer answer = read_answer(session);
  if (answer.finish != TSR_FINISH_LENGTH || answer.tokens != 4) {
    return ::testing::AssertionFailure()
           << "finish " << answer.finish << ", " << answer.tokens << " tokens, status "
           << answer.status << ' ' << answer.error;
  }
  return ::testing::AssertionSuccess();
}

void AbiTest::SetUpTestSuite() {
  const std::string& path = model_path();
  ASSERT_OK(tsr_runtime_create(nullptr, runtime.out()));
  ASSERT_OK(tsr_model_load(runtime, path.data(), path.size(), nullptr, model.out()));
}

void AbiTest::TearDownTestSuite() {
  model.reset();
  runtime.reset();
}

void AbiTest::SetUp() {
  context = new_context(model, small_context());
  session = new_session(context);
}

void AbiTest::TearDown() {
  if (context) {
    EXPECT_TRUE(works(context)) << "the context no longer works";
  }
  session.reset();
  context.reset();
  const Context fresh = new_context(model, small_context());
  EXPECT_TRUE(works(fresh)) << "a new context does not work";
}

Session AbiTest::generating(tsr_context in) {
  Session busy = new_session(in, 1);
  EXPECT_OK(tsr_session_add_text(busy, "once upon a time", TSR_NUL_TERMINATED, 0));
  const tsr_generate_options options = exactly(500);
  EXPECT_OK(tsr_session_generate(busy, &options));
  return busy;
}

}  // namespace tsr_test
