// Text, tokens and buffers: lengths that lie, bytes that are no UTF-8, room that is too small.
#include <functional>
#include <string>
#include <vector>

#include "tests/abi/fixture.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

class Text : public AbiTest {
 protected:
  // Every call that takes text, given (data, length).
  struct Entrance {
    const char* call;
    std::function<tsr_status(const char*, uint64_t)> run;
  };

  std::vector<Entrance> entrances() {
    return {
        {"tsr_tokenize",
         [this](const char* t, uint64_t n) {
           return tsr_tokenize(model, t, n, 0, nullptr, 0, &count);
         }},
        {"tsr_tokenize, special tokens parsed",
         [this](const char* t, uint64_t n) {
           return tsr_tokenize(model, t, n, TSR_TEXT_PARSE_SPECIAL, nullptr, 0, &count);
         }},
        {"tsr_session_add_text",
         [this](const char* t, uint64_t n) { return tsr_session_add_text(session, t, n, 0); }},
        {"tsr_chunk_create_text",
         [this](const char* t, uint64_t n) {
           return tsr_chunk_create_text(context, t, n, nullptr, chunk.out());
         }},
        {"tsr_chat_format",
         [this](const char* t, uint64_t n) {
           tsr_message message = prepared(tsr_message_init);
           message.role = TSR_ROLE_USER;
           message.text = t;
           message.length = n;
           return tsr_chat_format(model, &message, 1, TSR_ROLE_NONE, nullptr, 0, &count);
         }},
        {"tsr_context_options.anchor",
         [this](const char* t, uint64_t n) {
           tsr_context_options options = small_context();
           options.anchor = t;
           options.anchor_length = n;
           return tsr_context_create(model, &options, made.out());
         }},
        {"tsr_context_options.primer",
         [this](const char* t, uint64_t n) {
           tsr_context_options options = small_context();
           options.primer = t;
           options.primer_length = n;
           return tsr_context_create(model, &options, made.out());
         }},
        {"tsr_generate_options.stops",
         [this](const char* t, uint64_t n) {
           Session& busy = sessions.emplace_back(new_session(context));
           EXPECT_OK(tsr_session_add_text(busy, "a prompt", kNul, 0));
           const tsr_text stop = {t, n};
           tsr_generate_options options = exactly(1);
           options.stops = &stop;
           options.stop_count = 1;
           return tsr_session_generate(busy, &options);
         }},
    };
  }

  void TearDown() override {
    chunk.reset();
    made.reset();
    sessions.clear();
    AbiTest::TearDown();
  }

  uint64_t count = 0;
  Chunk chunk;
  Context made;
  std::vector<Session> sessions;
};

TEST_F(Text, InvalidUtf8IsRefusedWithItsOffset) {
  struct Bad {
    std::string bytes;
    int offset;
  };
  for (const Bad& bad : {
           Bad{"ab\xff", 2},                                    // no such byte
           Bad{"\x80", 0},                                      // continuation without a start
           Bad{"abc\xc3", 3},                                   // cut after 1 of 2
           Bad{"abcde\xe2\x82", 5},                             // after 2 of 3
           Bad{"abcdefg\xf0\x9f\x98", 7},                       // after 3 of 4
           Bad{"abcdefghi\xc3(", 9},                            // a start without its continuation
           Bad{std::string(11, 'a') + "\xc0\x80", 11},          // overlong NUL
           Bad{std::string(13, 'a') + "\xe0\x80\xaf", 13},      // overlong slash
           Bad{std::string(17, 'a') + "\xed\xa0\x80", 17},      // a surrogate
           Bad{std::string(19, 'a') + "\xf4\x90\x80\x80", 19},  // above U+10FFFF
           Bad{std::string(23, 'a') + "\xf8\x88\x80\x80\x80", 23},
           Bad{std::string("\0\0\xfe", 3), 2},
       }) {
    for (const Entrance& entrance : entrances()) {
      EXPECT_TRUE(returned(entrance.run(bad.bytes.data(), bad.bytes.size()), TSR_INVALID_ARGUMENT,
                           {"UTF-8", std::to_string(bad.offset)}))
          << entrance.call << " at offset " << bad.offset;
    }
  }
  EXPECT_EQ(token_count(session), 0u);
}

TEST_F(Text, UnusualUtf8IsFine) {
  for (const std::string& text :
       {std::string("a\0b", 3), std::string("\xef\xbf\xbf"), std::string("\xf4\x8f\xbf\xbf"),
        std::string("\xef\xbb\xbf"
                    "bom"),
        std::string("\xe2\x80\xae\x01\x7f\t\r\n"), std::string("\0", 1)}) {
    for (const Entrance& entrance : entrances()) {
      EXPECT_TRUE(returned(entrance.run(text.data(), text.size()), TSR_OK, {})) << entrance.call;
    }
  }
}

TEST_F(Text, NulTerminatedIsTheSameText) {
  std::vector<int32_t> by_length(64), by_nul(64);
  uint64_t a = 0, b = 0;
  ASSERT_OK(tsr_tokenize(model, "the end and more", 7, 0, by_length.data(), 64, &a));
  ASSERT_OK(tsr_tokenize(model, "the end", kNul, 0, by_nul.data(), 64, &b));
  ASSERT_EQ(a, b);
  EXPECT_EQ(by_length, by_nul);
}

// No text is that long: the length is refused before a byte behind the text is read. A length that
// is wrong but possible cannot be told from a right one.
TEST_F(Text, LengthsThatCannotBe) {
  const std::string text = "sixteen bytes...";
  for (uint64_t length : {UINT64_MAX - 1, UINT64_MAX / 2, UINT64_MAX / 4 + 2, UINT64_C(1) << 62,
                          UINT64_C(1) << 48, UINT64_C(1) << 40}) {
    for (const Entrance& entrance : entrances()) {
      const tsr_status status = entrance.run(text.data(), length);
      EXPECT_TRUE(status == TSR_CAPACITY ? returned(status, TSR_CAPACITY, {})
                                         : returned(status, TSR_INVALID_ARGUMENT, {}))
          << entrance.call << ' ' << length;
    }
    int32_t tokens[2] = {5, 6};
    char out[8];
    for (tsr_status status : {tsr_session_add_tokens(session, tokens, length),
                              tsr_detokenize(model, tokens, length, 0, out, 8, &count)}) {
      EXPECT_TRUE(status == TSR_CAPACITY || status == TSR_INVALID_ARGUMENT) << status;
    }
    tsr_message message = prepared(tsr_message_init);
    message.role = TSR_ROLE_USER;
    const tsr_status status = tsr_chat_format(model, &message, length, 0, out, 8, &count);
    EXPECT_TRUE(status == TSR_CAPACITY || status == TSR_INVALID_ARGUMENT) << status;
  }
  EXPECT_EQ(token_count(session), 0u);
}

// A capacity is a promise of room, however much it promises.
TEST_F(Text, CapacitiesMayBeHuge) {
  std::vector<int32_t> tokens(64);
  ASSERT_OK(tsr_tokenize(model, "hello there", kNul, 0, tokens.data(), UINT64_MAX, &count));
  std::string text(64, '?');
  ASSERT_OK(tsr_detokenize(model, tokens.data(), count, 0, text.data(), UINT64_MAX, &count));
  EXPECT_EQ(text.substr(0, count), "hello there");
}

// One sizing call: run(buffer, capacity in elements) over `element` bytes each.
void check_sizing(const char* call, uint64_t element, uint64_t* count,
                  const std::function<tsr_status(void*, uint64_t)>& run) {
  SCOPED_TRACE(call);
  *count = 77;
  ASSERT_OK(run(nullptr, 0));
  const uint64_t needed = *count;
  std::vector<unsigned char> buffer((needed + 1) * element, 0xaa);
  ASSERT_GT(needed, 1u);
  for (uint64_t capacity : {uint64_t{1}, needed - 1}) {
    *count = 77;
    EXPECT_FAILS(run(buffer.data(), capacity), TSR_BUFFER_TOO_SMALL, std::to_string(needed));
    EXPECT_EQ(*count, needed);
    for (unsigned char byte : buffer) ASSERT_EQ(byte, 0xaa) << "written at capacity " << capacity;
  }
  ASSERT_OK(run(buffer.data(), needed));
  EXPECT_EQ(*count, needed);
  for (uint64_t i = 0; i < element; ++i) EXPECT_EQ(buffer[needed * element + i], 0xaa);
}

TEST_F(Text, SizingCalls) {
  std::vector<int32_t> tokens(64);
  uint64_t n = 0;
  ASSERT_OK(tsr_tokenize(model, "hello there", kNul, 0, tokens.data(), 64, &n));
  tsr_message message = prepared(tsr_message_init);
  message.role = TSR_ROLE_USER;
  message.text = "hello";
  message.length = kNul;
  ASSERT_OK(tsr_session_add_tokens(session, tokens.data(), n));
  check_sizing("tsr_tokenize", 4, &count, [&](void* out, uint64_t room) {
    return tsr_tokenize(model, "hello there", kNul, 0, static_cast<int32_t*>(out), room, &count);
  });
  check_sizing("tsr_detokenize", 1, &count, [&](void* out, uint64_t room) {
    return tsr_detokenize(model, tokens.data(), n, 0, static_cast<char*>(out), room, &count);
  });
  check_sizing("tsr_chat_format", 1, &count, [&](void* out, uint64_t room) {
    return tsr_chat_format(model, &message, 1, TSR_ROLE_ASSISTANT, static_cast<char*>(out), room,
                           &count);
  });
  check_sizing("tsr_session_get_tokens", 4, &count, [&](void* out, uint64_t room) {
    return tsr_session_get_tokens(session, static_cast<int32_t*>(out), room, &count);
  });
  for (uint64_t flags : {TSR_LOGITS_LAST, TSR_LOGITS_ALL}) {
    Session fresh = new_session(context);
    ASSERT_OK(tsr_session_add_tokens(fresh, tokens.data(), n));
    check_sizing("tsr_session_evaluate", 4, &count, [&](void* out, uint64_t room) {
      return tsr_session_evaluate(fresh, flags, static_cast<float*>(out), room, &count);
    });
    EXPECT_EQ(count, 320 * (flags == TSR_LOGITS_ALL ? n : 1));
  }
  // May be empty, so only its count is known to be written.
  count = 77;
  EXPECT_OK(tsr_chat_default_system(model, nullptr, 0, &count));
  EXPECT_NE(count, 77u);
}

TEST_F(Text, TokensOutsideTheVocabulary) {
  char text[64];
  for (int32_t bad : {-1, 320, 321, INT32_MAX, INT32_MIN}) {
    const int32_t tokens[3] = {5, 6, bad};
    EXPECT_FAILS(tsr_detokenize(model, tokens, 3, 0, text, 64, &count), TSR_INVALID_ARGUMENT,
                 "tokens[2]", std::to_string(bad), "319");
    EXPECT_FAILS(tsr_session_add_tokens(session, tokens, 3), TSR_INVALID_ARGUMENT, "tokens[2]",
                 std::to_string(bad), "319");
  }
  EXPECT_EQ(token_count(session), 0u);
}

TEST_F(Text, LongerThanASession) {
  const std::string text(100'000, 'a');
  ASSERT_OK(tsr_session_add_text(session, "before", kNul, 0));
  const uint64_t before = token_count(session);
  EXPECT_FAILS(tsr_session_add_text(session, text.data(), text.size(), 0), TSR_CAPACITY, "1024");
  const std::vector<int32_t> tokens(5000, 5);
  EXPECT_FAILS(tsr_session_add_tokens(session, tokens.data(), tokens.size()), TSR_CAPACITY, "5000",
               "1024");
  EXPECT_FAILS(tsr_chunk_create_text(context, text.data(), text.size(), nullptr, chunk.out()),
               TSR_CAPACITY, "1024");
  EXPECT_EQ(token_count(session), before);
  // As much as fits does, and not one token more.
  ASSERT_OK(tsr_session_add_tokens(session, tokens.data(), 1024 - before));
  EXPECT_FAILS(tsr_session_add_tokens(session, tokens.data(), 1), TSR_CAPACITY, "1024");
  EXPECT_EQ(token_count(session), 1024u);
}

TEST_F(Text, EmptyText) {
  EXPECT_OK(tsr_session_add_text(session, "", 0, 0));
  EXPECT_OK(tsr_session_add_text(session, "", kNul, 0));
  EXPECT_EQ(token_count(session), 0u);
  EXPECT_FAILS(tsr_chunk_create_text(context, "", 0, nullptr, chunk.out()), TSR_INVALID_ARGUMENT,
               "text");
  EXPECT_FAILS(tsr_chunk_create_text(context, "", kNul, nullptr, chunk.out()), TSR_INVALID_ARGUMENT,
               "text");
}

TEST_F(Text, StopStrings) {
  ASSERT_OK(tsr_session_add_text(session, "a prompt", kNul, 0));
  const std::string longest(256, 's');
  std::vector<tsr_text> stops(17, tsr_text{"stop", 4});
  tsr_generate_options options = exactly(2);
  options.stops = stops.data();
  auto generate = [&](uint64_t n) {
    options.stop_count = n;
    return tsr_session_generate(session, &options);
  };
  EXPECT_FAILS(generate(17), TSR_INVALID_ARGUMENT, "stop_count", "16");
  EXPECT_FAILS(generate(UINT64_MAX), TSR_INVALID_ARGUMENT, "stop_count", "16");
  stops[3] = {"", 0};
  EXPECT_FAILS(generate(16), TSR_INVALID_ARGUMENT, "stops[3]");
  stops[3] = {"", kNul};
  EXPECT_FAILS(generate(16), TSR_INVALID_ARGUMENT, "stops[3]");
  const std::string too_long(257, 's');
  stops[3] = {too_long.data(), 257};
  EXPECT_FAILS(generate(16), TSR_INVALID_ARGUMENT, "stops[3]", "256");
  stops[3] = {too_long.c_str(), kNul};
  EXPECT_FAILS(generate(16), TSR_INVALID_ARGUMENT, "stops[3]", "256");
  EXPECT_EQ(tsr_session_cancel(session), TSR_OK);
  stops[3] = {longest.data(), 256};
  ASSERT_OK(generate(16));
  EXPECT_EQ(read_answer(session).status, TSR_OK);
}

}  // namespace
}  // namespace tsr_test
