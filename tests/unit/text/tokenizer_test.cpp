#include "runtime/text/tokenizer.hpp"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "runtime/gguf/reader.hpp"
#include "runtime/gguf/writer.hpp"
#include "runtime/text/from_gguf.hpp"
#include "tests/fuzz/random.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/text/small_vocabulary.hpp"

namespace tessera::text {
namespace {

using test::expect_error;
using test::Ids;
using test::small_vocabulary;

// Ids 256 "he", 257 "ll", 258 "hell", 259 "hello", 260 " hello"; then control, user-defined.
VocabularyData hello(const std::vector<std::string>& control = {},
                     const std::vector<std::string>& user_defined = {}) {
  return small_vocabulary({"h e", "l l", "he ll", "hell o", "\xC4\xA0 hello"}, control,
                          user_defined);
}

TEST(Tokenizer, EncodesAndDecodes) {
  const Tokenizer tokenizer(hello());
  EXPECT_EQ(tokenizer.size(), 261);
  EXPECT_EQ(tokenizer.encode("hello hello", false), (Ids{259, 260}));
  EXPECT_EQ(tokenizer.encode("hell  hello", false), (Ids{258, ' ', 260}));
  EXPECT_EQ(tokenizer.encode("", false), Ids{});
  EXPECT_EQ(tokenizer.decode(Ids{259, 260, '!'}, false), "hello hello!");
  EXPECT_EQ(tokenizer.piece(260), " hello");
  EXPECT_EQ(tokenizer.find(" hello"), 260);
  EXPECT_EQ(tokenizer.find("ello"), std::nullopt);
  EXPECT_EQ(tokenizer.find(""), std::nullopt);
}

TEST(Tokenizer, AnyBytesComeBack) {
  test::Random random(5);
  const Tokenizer tokenizer(hello({"<|im_end|>"}));
  for (int round = 0; round < 3000; ++round) {
    std::string bytes;
    for (uint64_t n = random.below(80); n > 0; --n) {
      bytes += random.one_in(3) ? "hello" : std::string(1, static_cast<char>(random.below(256)));
    }
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes, false), false), bytes);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes, true), true), bytes);
  }
}

TEST(Tokenizer, InvalidBytesSplitTheText) {
  const Tokenizer tokenizer(hello());
  EXPECT_EQ(tokenizer.encode("hello\xFFhello\xE4\xB8 hello", false),
            (Ids{259, 0xFF, 259, 0xE4, 0xB8, 260}));
  // Before invalid bytes a text ends: all of the white space is one word there.
  const Tokenizer spaces(small_vocabulary({"\xC4\xA0 \xC4\xA0"}));
  EXPECT_EQ(spaces.encode("  \xFFx", false), (Ids{256, 0xFF, 'x'}));
  EXPECT_EQ(spaces.encode("  x", false), (Ids{' ', ' ', 'x'}));
}

TEST(Tokenizer, SpecialTokensOnlyWhenAsked) {
  const Tokenizer tokenizer(hello({"<|im_end|>", "<|im_end|>\n", "<|im"}, {"<think>"}));
  const int32_t end = 261, end_newline = 262, im = 263, think = 264;
  EXPECT_EQ(tokenizer.encode("hello<|im_end|>hello", true), (Ids{259, end, 259}));
  EXPECT_EQ(tokenizer.encode("<|im_end|>\n<|im_end|>", true), (Ids{end_newline, end}));
  EXPECT_EQ(tokenizer.encode("<|im_en|>", true), (Ids{im, '_', 'e', 'n', '|', '>'}));
  EXPECT_EQ(tokenizer.encode("<<|im<think>", true), (Ids{'<', im, think}));
  // As text they are encoded byte by byte, and come back as they were.
  for (const char* text : {"hello<|im_end|>", "<|im_end|>\n", "<think>", "<|im"}) {
    const Ids ids = tokenizer.encode(text, false);
    for (const int32_t id : ids) EXPECT_LT(id, end) << text;
    EXPECT_EQ(tokenizer.decode(ids, false), text);
  }
  EXPECT_EQ(tokenizer.decode(Ids{259, end, think}, false), "hello<think>");
  EXPECT_EQ(tokenizer.decode(Ids{259, end, think}, true), "hello<|im_end|><think>");
  EXPECT_TRUE(tokenizer.is_control(end));
  EXPECT_FALSE(tokenizer.is_control(think));
  EXPECT_EQ(tokenizer.kind(think), TokenKind::user_defined);
  EXPECT_EQ(tokenizer.find("<think>"), think);
}

// A file whose merges lead to a control token must not let text become that token.
TEST(Tokenizer, MergesNeverGiveAControlToken) {
  VocabularyData data = hello({"hello!"});
  data.merges.push_back("hello !");
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("hello!", false), (Ids{259, '!'}));
  data.pre = "llama-bpe";
  data.tokens.push_back("hi");  // a control token that is a whole word
  data.kinds.push_back(TokenKind::control);
  EXPECT_EQ(Tokenizer(data).encode("hi", false), (Ids{'h', 'i'}));
}

TEST(Tokenizer, Llama3TakesWholeWordsWithoutMerging) {
  VocabularyData data = small_vocabulary({});
  data.tokens.push_back("word");  // no merges lead here
  data.kinds.push_back(TokenKind::normal);
  EXPECT_EQ(Tokenizer(data).encode("word", false), (Ids{'w', 'o', 'r', 'd'}));
  data.pre = "llama-bpe";
  EXPECT_EQ(Tokenizer(data).encode("word", false), Ids{256});
}

TEST(Tokenizer, BytesWithoutATokenAreLeftOut) {
  VocabularyData data = hello();
  data.tokens['z'] = "zz-unused";
  const Tokenizer tokenizer(data);
  EXPECT_FALSE(tokenizer.encodes_byte('z'));
  EXPECT_TRUE(tokenizer.encodes_byte('y'));
  EXPECT_EQ(tokenizer.encode("zhelzloz", false), Ids{259});
}

TEST(Tokenizer, EndOfGeneration) {
  VocabularyData data = hello({"<|im_end|>", "<|endoftext|>", "<|other|>"}, {"<|eot_id|>"});
  data.eos = 263;  // <|other|>
  data.eot = 5;
  const Tokenizer tokenizer(data);
  for (const int32_t id : {261, 262, 263, 5}) EXPECT_TRUE(tokenizer.is_end_of_generation(id));
  EXPECT_FALSE(tokenizer.is_end_of_generation(264)) << "user-defined, not control";
  EXPECT_FALSE(tokenizer.is_end_of_generation(259));
  EXPECT_FALSE(tokenizer.is_end_of_generation(-1));
  EXPECT_EQ(tokenizer.eos(), 263);
  EXPECT_EQ(tokenizer.bos(), -1);
}

// Text that a normal token cannot spell stands for itself; byte tokens for their byte.
TEST(Tokenizer, PiecesOfOtherKinds) {
  VocabularyData data = hello();
  data.tokens.insert(data.tokens.end(), {"a b", "<0x0A>", "\xE4\xB8\xAD"});
  data.kinds.insert(data.kinds.end(), {TokenKind::normal, TokenKind::byte, TokenKind::unused});
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.piece(261), "a b");
  EXPECT_EQ(tokenizer.piece(262), "\n");
  EXPECT_EQ(tokenizer.piece(263), "\xE4\xB8\xAD");
}

// Nothing is lost and nothing is slow. PCRE2's default match limit is ten million steps, which the
// longest run exceeds.
TEST(Tokenizer, LongRunsOfOneKind) {
  for (const char* pre : {"smollm", "gpt-2", "llama-bpe", "qwen2"}) {
    VocabularyData data = hello();
    data.pre = pre;
    const Tokenizer tokenizer(data);
    const auto check = [&](const std::string& unit, size_t size) {
      std::string text;
      while (text.size() < size) text += unit;
      text += "x";
      ASSERT_EQ(tokenizer.encode(text, false).size(), text.size()) << pre << unit;
    };
    for (const char* unit : {"\n", "x", "7", "!", "\xE4\xB8\xAD", " \t", "' "}) {
      check(unit, 200'000);
    }
    check(" ", pre == std::string_view("qwen2") ? 12'000'000 : 200'000);
  }
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const Tokenizer tokenizer(hello({"<|im_end|>"}));
  const std::string text = "hello hell  he<|im_end|>llo \xFF 12 h\xC3\xA9llo";
  const Ids expected = tokenizer.encode(text, true);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) count += tokenizer.encode(text, true) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(TokenizerErrors, Unsupported) {
  VocabularyData data = hello();
  data.model = "llama";
  expect_error(Status::unsupported, {"tokenizer.ggml.model", "llama", "gpt2"},
               [&] { Tokenizer{data}; });
  data = hello();
  data.pre = "tekken";
  expect_error(Status::unsupported, {"tokenizer.ggml.pre", "tekken", "smollm", "qwen2"},
               [&] { Tokenizer{data}; });
}

TEST(TokenizerErrors, Corrupt) {
  const auto corrupt = [](const std::vector<std::string>& named, auto change) {
    VocabularyData data = hello();
    change(&data);
    expect_error(Status::corrupt_file, named, [&] { Tokenizer{data}; });
  };
  corrupt({"tokenizer.ggml.tokens", "empty"}, [](auto* d) { d->tokens.clear(); });
  corrupt({"tokenizer.ggml.token_type", "260", "261"}, [](auto* d) { d->kinds.pop_back(); });
  corrupt({"merges[5]", "x y", "\"xy\""}, [](auto* d) { d->merges.push_back("x y"); });
  corrupt({"merges[0]", "\"zzz\""}, [](auto* d) { d->merges[0] = "zzz e"; });
  for (const char* merge : {"he", " he", "he ", "h e l", ""}) {
    corrupt({"merges[1]", "two tokens"}, [&](auto* d) { d->merges[1] = merge; });
  }
  corrupt({"eos", "261"}, [](auto* d) { d->eos = 261; });
  corrupt({"bos", "-2"}, [](auto* d) { d->bos = -2; });
}

TEST(TokenizerErrors, IdsOutOfRange) {
  const Tokenizer tokenizer(hello());
  for (const int32_t id : {-1, 261, INT32_MAX, INT32_MIN}) {
    const std::vector<std::string> named = {std::to_string(id), "0 to 260"};
    expect_error(Status::invalid_argument, named, [&] { tokenizer.piece(id); });
    expect_error(Status::invalid_argument, named, [&] { tokenizer.kind(id); });
    expect_error(Status::invalid_argument, named, [&] { tokenizer.decode(Ids{1, id}, true); });
  }
}

class FromGguf : public testing::Test {
 protected:
  // A file with the keys of hello(), after `change`.
  template <typename Change>
  std::string write(Change change) {
    gguf::Writer writer(path_);
    writer.set("tokenizer.ggml.model", "gpt2");
    writer.set("tokenizer.ggml.pre", "llama-bpe");
    writer.set("tokenizer.ggml.tokens", hello({"<|end|>"}).tokens);
    std::vector<int32_t> types(262, 1);
    types[261] = 3;
    writer.set("tokenizer.ggml.token_type", types);
    writer.set("tokenizer.ggml.merges", hello().merges);
    writer.set("tokenizer.ggml.eos_token_id", uint32_t{261});
    change(&writer);
    writer.finish();
    return path_;
  }
  void expect_corrupt(const std::string& key, const gguf::Value& value) {
    write([&](gguf::Writer* writer) { writer->set(key, value); });
    const gguf::Reader reader(path_);
    expect_error(Status::corrupt_file, {path_, key}, [&] { vocabulary_from_gguf(reader); });
  }

  test::TempFolder folder_;
  std::string path_ = folder_.file("vocabulary.gguf");
};

TEST_F(FromGguf, ReadsTheKeys) {
  write([](gguf::Writer* writer) { writer->set("tokenizer.chat_template", "{{ x }}"); });
  const VocabularyData data = vocabulary_from_gguf(gguf::Reader(path_));
  EXPECT_EQ(data.pre, "llama-bpe");
  EXPECT_EQ(data.tokens, hello({"<|end|>"}).tokens);
  EXPECT_EQ(data.kinds[261], TokenKind::control);
  EXPECT_EQ(data.eos, 261);
  EXPECT_EQ(data.bos, -1);
  EXPECT_TRUE(data.add_bos) << "the default of Llama 3 files";
  EXPECT_EQ(data.chat_template, "{{ x }}");
  EXPECT_EQ(Tokenizer(data).encode("hello<|end|>", true), (Ids{259, 261}));
}

TEST_F(FromGguf, BadValues) {
  expect_corrupt("tokenizer.ggml.token_type", std::vector<int32_t>{1, 7});
  expect_corrupt("tokenizer.ggml.token_type", std::vector<std::string>{"x"});
  expect_corrupt("tokenizer.ggml.tokens", uint32_t{1});
  expect_corrupt("tokenizer.ggml.merges", std::vector<int32_t>{1});
  expect_corrupt("tokenizer.ggml.eos_token_id", uint32_t{262});
  expect_corrupt("tokenizer.ggml.bos_token_id", "x");
  expect_corrupt("tokenizer.ggml.add_bos_token", uint32_t{1});
  expect_corrupt("tokenizer.chat_template", uint32_t{1});
}

}  // namespace
}  // namespace tessera::text
