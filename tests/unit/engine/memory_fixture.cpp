#include "tests/unit/engine/memory_fixture.hpp"

#include <algorithm>
#include <iostream>

namespace tessera::test {
namespace {

void note(Outcome& outcome, tsr_status status) {
  if (status == TSR_OK) return;
  outcome.silent += tsr_last_error()[0] == '\0';
  outcome.strange += status != TSR_OUT_OF_HOST_MEMORY;
}

}  // namespace

Outcome start(tsr_session session, Ask ask) {
  Outcome outcome;
  tsr_generate_options options{};
  options.struct_size = sizeof options;
  options.max_tokens = kNewTokens;
  options.flags = TSR_GENERATE_IGNORE_END;
  tsr_text stop{"\x01\x02 a stop that never comes", TSR_NUL_TERMINATED};
  options.stops = &stop;
  options.stop_count = 1;
  const tsr_logit_bias bias{7, 1e-30f};
  if (ask == Ask::everything) {
    options.lookup_tokens = 4;
    options.logprobs = 2;
    options.presence_penalty = 1e-30f;
    options.biases = &bias;
    options.bias_count = 1;
  } else if (ask == Ask::drawn) {
    options.temperature = 1;
    options.top_p = 0.9f;
    options.seed = 5;
    options.logprobs = 3;
  }
  outcome.started = tsr_session_generate(session, &options);
  note(outcome, outcome.started);
  return outcome;
}

void read_to_end(tsr_session session, Outcome& outcome) {
  while (outcome.started == TSR_OK) {
    tsr_event event{};
    event.struct_size = sizeof event;
    const tsr_status status = tsr_session_next(session, TSR_WAIT_FOREVER, &event);
    note(outcome, status);
    if (status != TSR_OK) continue;  // the event is still there
    if (event.kind == TSR_EVENT_FAILED) {
      outcome.status = event.status;
      outcome.silent += event.text_length == 0;
      return;
    }
    if (event.kind == TSR_EVENT_DONE) {
      outcome.finish = event.finish;
      outcome.tokens = event.tokens;
      return;
    }
    if (event.kind == TSR_EVENT_NONE) {
      ++outcome.strange;
      return;
    }
  }
}

Outcome request(tsr_session session, Ask ask) {
  Outcome outcome = start(session, ask);
  read_to_end(session, outcome);
  return outcome;
}

bool expect_answer_or_failure(const Outcome& outcome) {
  EXPECT_EQ(outcome.silent, 0);
  EXPECT_EQ(outcome.strange, 0);
  if (outcome.started == TSR_OK && outcome.status == TSR_OK) {
    EXPECT_EQ(outcome.finish, TSR_FINISH_LENGTH);
    EXPECT_EQ(outcome.tokens, kNewTokens);
    return false;
  }
  EXPECT_TRUE(outcome.started == TSR_OUT_OF_HOST_MEMORY || outcome.status == TSR_OUT_OF_HOST_MEMORY)
      << tsr_status_name(outcome.status);
  return true;
}

void expect_begins(const std::vector<int32_t>& wanted, const std::vector<int32_t>& tokens) {
  ASSERT_LE(tokens.size(), wanted.size());
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), wanted.begin()));
}

tsr::Session chunks_and_text(const tsr::Context& context) {
  tsr::Session session(context);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  const tsr::Chunk ready(context, digits(9, 2)), absent(context, digits(12, 3), lazy);
  EXPECT_TRUE(ready.wait());
  session.add_anchor();
  session.add_chunk(ready);
  session.add_text("x");
  session.add_chunk(absent);
  session.add_text("?");
  return session;
}

void MemoryFixture::run(Setup setup, int64_t length, int64_t stride, Ask ask) {
  std::vector<int32_t> wanted;
  {
    const tsr::Context context = this->context(options());
    tsr::Session session = setup(context);
    EXPECT_EQ(request(session.get(), ask).finish, TSR_FINISH_LENGTH);
    if (ask == Ask::everything) {
      EXPECT_GT(session.report().tokens_drafted, 0u);
    }
    wanted = session.tokens();
  }
  int64_t n = 0;
  int failed = 0;
  for (; !HasFailure(); n += stride) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    const tsr::Context context = this->context(options());
    tsr::Session session = setup(context);
    g_length = length;
    g_failed = 0;
    g_before = n;
    const Outcome outcome = request(session.get(), ask);
    g_before = -1;
    const bool fired = g_failed > 0;
    failed += expect_answer_or_failure(outcome);
    expect_idle(context);
    expect_begins(wanted, session.tokens());
    if (ask == Ask::drawn) {
      session = setup(context);
      expect_answer_or_failure(request(session.get(), ask));
    } else {  // goes on where it stood
      const uint64_t left = wanted.size() - session.info().tokens;
      if (left > 0) generate(session, greedy(static_cast<uint32_t>(left)));
    }
    EXPECT_EQ(session.tokens(), wanted);
    session.reset();
    expect_only_caches(context);
    load_failures_ += context.metrics().load_failures;
    store_failures_ += context.metrics().store_failures;
    if (!fired) break;
  }
  EXPECT_GT(failed, 30) << "of " << n << " allocations";
  std::cout << n << " allocations, " << failed << " requests failed\n";
}

}  // namespace tessera::test
