// The C++17 wrapper: a chat of two turns, the range of events, exceptions, ownership.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tessera/tessera.hpp"
#include "tests/abi/model_file.hpp"

namespace {

template <typename T>
constexpr bool kMoveOnly =
    std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_assignable_v<T> &&
    !std::is_copy_constructible_v<T>;
static_assert(kMoveOnly<tsr::Runtime> && kMoveOnly<tsr::Model> && kMoveOnly<tsr::Context> &&
              kMoveOnly<tsr::Chunk> && kMoveOnly<tsr::Session>);
static_assert(sizeof(tsr::Session) == sizeof(tsr_session));

tsr::ContextOptions small() {
  tsr::ContextOptions options;
  options.kv_budget = 4 << 20;
  options.threads = 1;
  return options;
}

tsr::GenerateOptions tokens(uint32_t count) {
  tsr::GenerateOptions options;
  options.max_tokens = count;
  options.flags = TSR_GENERATE_IGNORE_END;
  return options;
}

class Wrapper : public ::testing::Test {
 protected:
  tsr::Runtime runtime;
  tsr::Model model{runtime, tsr_test::model_path()};
  tsr::Context context{model, small()};
};

TEST_F(Wrapper, ChatOfTwoTurns) {
  tsr::Session session(context);
  for (const char* question : {"hello", "and then?"}) {
    session.open_role(TSR_ROLE_USER);
    session.add_text(question);
    session.close_role(TSR_ROLE_USER);
    session.open_role(TSR_ROLE_ASSISTANT);
    const uint64_t prompt = session.info().tokens;
    session.generate(tokens(12));
    std::string text;
    uint64_t generated = 0;
    tsr_finish finish = TSR_FINISH_NONE;
    for (const tsr::Event& event : session.events()) {
      EXPECT_EQ(finish, TSR_FINISH_NONE) << "an event behind the last";
      if (event.kind == TSR_EVENT_TEXT) text += event.text();
      if (event.kind == TSR_EVENT_DONE) finish = event.finish, generated = event.tokens;
    }
    session.close_role(TSR_ROLE_ASSISTANT);
    EXPECT_EQ(finish, TSR_FINISH_LENGTH);
    EXPECT_EQ(generated, 12u);
    EXPECT_FALSE(text.empty());
    const tsr::Report report = session.report();
    EXPECT_EQ(report.tokens_exact + report.tokens_repaired + report.tokens_approximate +
                  report.tokens_computed,
              prompt);
    EXPECT_EQ(report.tokens_generated, 12u);
  }
  // The session is what the template writes, up to the answers.
  const std::string whole = model.detokenize(session.tokens(), TSR_DETOKENIZE_SPECIAL);
  const std::string start = model.chat_format({{TSR_ROLE_USER, "hello"}}, TSR_ROLE_ASSISTANT);
  EXPECT_NE(start.find("hello"), std::string::npos);
  EXPECT_NE(whole.find("hello"), std::string::npos);
  EXPECT_NE(whole.find("and then?"), std::string::npos);
}

TEST_F(Wrapper, ReadAndStops) {
  auto answer = [&](const std::vector<std::string_view>& stops) {
    tsr::Session session(context);
    session.add_text("once upon a time");
    session.generate(tokens(24), stops);
    return session.read();
  };
  const std::string whole = answer({});
  ASSERT_GT(whole.size(), 4u);
  EXPECT_EQ(answer({}), whole) << "greedy answers repeat";
  size_t cut = whole.size() / 2;  // at a character's beginning
  while (cut > 0 && (whole[cut] & 0xc0) == 0x80) --cut;
  size_t end = cut + 1;
  while (end < whole.size() && (whole[end] & 0xc0) == 0x80) ++end;
  const std::string stop = whole.substr(cut, end - cut);
  EXPECT_EQ(answer({stop}), whole.substr(0, whole.find(stop)));
}

TEST_F(Wrapper, BiasesAndLogProbabilities) {
  const std::vector<tsr_logit_bias> biases = {{40, 500}, {41, 499}};
  tsr::GenerateOptions options = tokens(5);
  options.set_biases(biases);
  options.logprobs = 2;
  tsr::Session session(context);
  session.add_text("once upon a time");
  session.generate(options);
  int told = 0;
  for (const tsr::Event& event : session.events()) {
    if (event.kind != TSR_EVENT_TOKEN) continue;
    ++told;
    EXPECT_EQ(event.token, 40);
    const std::vector<tsr_token_logprob> top = event.top();
    ASSERT_EQ(top.size(), 2u);
    EXPECT_EQ(top[0].token, 40);
    EXPECT_EQ(top[0].logprob, event.logprob);
    EXPECT_EQ(top[1].token, 41);
    EXPECT_LT(top[1].logprob, top[0].logprob);
  }
  EXPECT_EQ(told, 5);
}

TEST_F(Wrapper, ChunksAndWaiting) {
  tsr::ContextOptions options = small();
  const std::string anchor = model.chat_format({{TSR_ROLE_SYSTEM, "be brief"}}, TSR_ROLE_USER);
  options.set_anchor(anchor);
  options.set_primer("some text of no importance");
  tsr::Context with_anchor(model, options);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  tsr::Chunk chunk(with_anchor, "the sea is deep", lazy);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  EXPECT_TRUE(chunk.wait());
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);
  EXPECT_GT(chunk.info().bytes, 0u);

  tsr::Session session(with_anchor);
  session.add_anchor();
  session.add_chunk(chunk);
  session.add_text(" and the sky?");
  EXPECT_EQ(with_anchor.wait(0), nullptr);
  session.generate(tokens(3));
  EXPECT_EQ(with_anchor.wait(10'000), session.get());
  session.read();
  EXPECT_EQ(with_anchor.metrics().chunks, 1u);
  EXPECT_GT(session.report().bytes_shared, 0u);
}

TEST_F(Wrapper, Gate) {
  tsr::SessionOptions setting;
  setting.repair = TSR_REPAIR_NONE;
  EXPECT_FALSE(context.gate_result(setting));
  tsr::GateOptions options;
  options.session = &setting;
  options.max_prompts = 2;
  options.answer_tokens = 3;
  const tsr::GateResult own = context.gate({"the sea is deep", "bread is baked"}, options);
  EXPECT_EQ(own.prompts, 2u);
  const tsr::GateResult asked =
      context.gate({"the sea is deep", "bread is baked"}, options, {"and the sky?"});
  EXPECT_EQ(asked.prompts, 1u);
  const auto found = context.gate_result(setting);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kl_mean, asked.kl_mean);
}

TEST_F(Wrapper, Logits) {
  tsr::Session session(context);
  session.add_tokens(model.tokenize("four or five"));
  const uint64_t rows = session.info().tokens;
  const std::vector<float> all = session.evaluate(TSR_LOGITS_ALL);
  EXPECT_EQ(all.size(), rows * model.info().vocabulary);
}

// What grows between the two calls is asked for again; what fails otherwise is thrown.
TEST(Sized, GrowsWithItsSource) {
  int calls = 0;
  const auto growing = [&](int32_t* out, uint64_t room, uint64_t* count) -> tsr_status {
    *count = ++calls < 4 ? static_cast<uint64_t>(calls) : 3u;
    if (room == 0) return TSR_OK;
    if (room < *count) return TSR_BUFFER_TOO_SMALL;
    std::fill_n(out, *count, 7);
    return TSR_OK;
  };
  EXPECT_EQ(tsr::detail::sized<std::vector<int32_t>>(growing), std::vector<int32_t>(3, 7));
  EXPECT_EQ(calls, 4);
  const auto fails = [](int32_t*, uint64_t room, uint64_t* count) -> tsr_status {
    *count = 2;
    return room == 0 ? TSR_OK : TSR_BUSY;
  };
  EXPECT_THROW(tsr::detail::sized<std::vector<int32_t>>(fails), tsr::Exception);
}

TEST_F(Wrapper, Exceptions) {
  try {
    tsr::Model none(runtime, "/no/such/model.gguf");
    FAIL() << "loaded nothing";
  } catch (const tsr::Exception& e) {
    EXPECT_EQ(e.status(), TSR_NOT_FOUND);
    EXPECT_NE(std::string(e.what()).find("/no/such/model.gguf"), std::string::npos) << e.what();
  }
  tsr::Session session(context);
  EXPECT_THROW(session.generate(), tsr::Exception);
  EXPECT_THROW(session.add_text("\xff"), tsr::Exception);
  EXPECT_THROW(session.add_tokens({-1}), tsr::Exception);
  // None of it did any harm.
  session.add_text("go on");
  session.generate(tokens(2));
  session.read();
}

TEST_F(Wrapper, EmptyText) {
  tsr::Session session(context);
  session.add_text({});
  session.add_tokens({});
  EXPECT_TRUE(session.tokens().empty());
  EXPECT_TRUE(model.tokenize({}).empty());
  EXPECT_TRUE(model.detokenize({}).empty());
  EXPECT_THROW(tsr::Chunk(context, {}), tsr::Exception);
}

TEST_F(Wrapper, MovedFromIsEmpty) {
  tsr::Session first(context);
  first.add_text("kept");
  tsr::Session second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): defined to be empty
  EXPECT_THROW(first.add_text("x"), tsr::Exception);
  EXPECT_GT(second.info().tokens, 0u);
  tsr::Session third(context);
  third = std::move(second);
  EXPECT_GT(third.info().tokens, 0u);
  third.reset();
  EXPECT_FALSE(third);
}

TEST_F(Wrapper, Devices) {
  const std::vector<tsr::DeviceInfo> devices = runtime.devices();
  const std::string used = model.info().device;
  EXPECT_TRUE(std::any_of(devices.begin(), devices.end(), [&](const tsr::DeviceInfo& device) {
    return device.available == 1 && device.id == used;
  })) << used;
}

}  // namespace
