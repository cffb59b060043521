#include "runtime/text/chat_template.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "runtime/gguf/reader.hpp"
#include "runtime/text/from_gguf.hpp"
#include "runtime/text/jinja_outline.hpp"
#include "runtime/text/tokenizer.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/text/small_vocabulary.hpp"

namespace tessera::text {
namespace {

using test::expect_error;
using test::Ids;
using test::small_vocabulary;

constexpr int32_t kStartId = 256;
constexpr int32_t kEndId = 257;
constexpr int32_t kSeparatorId = 258;

const char* const kModel = TESSERA_MODELS "/SmolLM2-135M-Instruct-Q4_1.gguf";

const Tokenizer& marks() {
  static const Tokenizer tokenizer(
      small_vocabulary({}, {"<|im_start|>", "<|im_end|>", "<|im_sep|>"}));
  return tokenizer;
}

ChatTemplate recognise(std::string_view jinja) {
  return ChatTemplate::recognise(jinja, marks());
}

// Plain ChatML, as many fine-tunes have it: no default system turn.
constexpr std::string_view kPlain =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Qwen2-Instruct's.
constexpr std::string_view kQwen2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// The form of Qwen2.5 and 3: tools, branches, trimmed tags, a variable for the content.
constexpr std::string_view kTools = R"({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are the one with tools.' }}
    {%- endif %}
    {{- "\n\n# Tools\n" }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "<|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Q, the helper\'s helper.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user' }}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

// Llama 2's form.
constexpr std::string_view kLlama2 =
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + "
    "message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

// Plain ChatML with some of its text replaced.
std::string plain_with(const std::string& old_text, const std::string& new_text) {
  std::string jinja(kPlain);
  jinja.replace(jinja.find(old_text), old_text.size(), new_text);
  return jinja;
}

TEST(ChatTemplate, PlainChatMl) {
  const ChatTemplate chat = recognise(kPlain);
  ASSERT_TRUE(chat.known()) << chat.reason();
  EXPECT_EQ(chat.name(), "chatml");
  EXPECT_EQ(chat.default_system(), "");
  EXPECT_EQ(chat.open(Role::user), (Ids{kStartId, 'u', 's', 'e', 'r', '\n'}));
  EXPECT_EQ(chat.close(Role::user), (Ids{kEndId, '\n'}));
  EXPECT_EQ(chat.open_text(Role::system), "<|im_start|>system\n");
  EXPECT_EQ(chat.open_text(Role::assistant), "<|im_start|>assistant\n");
  EXPECT_EQ(chat.open_text(Role::tool), "<|im_start|>tool\n");
  EXPECT_EQ(chat.close_text(Role::tool), "<|im_end|>\n");
}

TEST(ChatTemplate, DefaultSystemTurns) {
  EXPECT_EQ(recognise(kQwen2).default_system(), "You are a helpful assistant.");
  const ChatTemplate tools = recognise(kTools);
  ASSERT_TRUE(tools.known()) << tools.reason();
  EXPECT_EQ(tools.default_system(), "You are Q, the helper's helper.");
  EXPECT_EQ(tools.open_text(Role::tool), "<|im_start|>user\n<tool_response>\n");
  EXPECT_EQ(tools.close_text(Role::tool), "\n</tool_response><|im_end|>\n");
  // By way of a variable.
  const ChatTemplate variable = recognise(
      "{% if messages[0].role == 'system' %}{% set system_message = messages[0].content %}"
      "{% else %}{% set system_message = 'Be brief.' %}{% endif %}"
      "{{ '<|im_start|>system\n' + system_message + '<|im_end|>\n' }}" +
      std::string(kPlain));
  EXPECT_EQ(variable.default_system(), "Be brief.");
}

TEST(ChatTemplate, OtherWaysToWriteTheSame) {
  const std::string variants[] = {
      // Text outside of tags, whose lines are trimmed around statements.
      "{% for message in messages %}\n  {% if true %}\n<|im_start|>{{ message.role }}\n"
      "{{ message.content | trim }}<|im_end|>\n  {% endif %}\n{% endfor %}\n",
      // Roles written out.
      "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|im_start|>user\\n' + m['content'] "
      "+ '<|im_end|>\\n' }}{% else %}{{ '<|im_start|>assistant\\n' + m['content'] + "
      "'<|im_end|>\\n' }}{% endif %}{% endfor %}",
      // The end of the turn in a branch of its own.
      "{# {{ '<|' }} #}{% for message in messages %}{{ '<|im_start|>' ~ message[\"role\"] ~ \"\\n\""
      " ~ (message['content']) }}{% if not loop.last %}{{ '<|im_end|>' + '\\n'}}{% endif %}"
      "{% endfor %}",
      // A turn kept in a variable, and a conditional value.
      "{% for message in messages %}{% set turn = '<|im_start|>' + message['role'] + '\\n' + "
      "message['content'] %}{{ turn }}{{ '<|im_end|>\\n' if x['a'] == 'b' else '' }}{% endfor %}",
  };
  for (const std::string& jinja : variants) {
    const ChatTemplate chat = recognise(jinja);
    ASSERT_TRUE(chat.known()) << jinja << ": " << chat.reason();
    EXPECT_EQ(chat.open_text(Role::user), "<|im_start|>user\n") << jinja;
    EXPECT_EQ(chat.close_text(Role::user), "<|im_end|>\n") << jinja;
  }
}

TEST(ChatTemplate, SeparatorAndTailComeFromTheTemplate) {
  const ChatTemplate separated = recognise(plain_with("'\\n'", "'<|im_sep|>'"));
  EXPECT_EQ(separated.open(Role::user), (Ids{kStartId, 'u', 's', 'e', 'r', kSeparatorId}));
  const ChatTemplate no_newline = recognise(plain_with("'<|im_end|>' + '\\n'", "'<|im_end|>'"));
  EXPECT_EQ(no_newline.close(Role::user), Ids{kEndId});
}

TEST(ChatTemplate, NotKnown) {
  const auto reason = [](std::string_view jinja) {
    const ChatTemplate chat = recognise(jinja);
    EXPECT_FALSE(chat.known()) << jinja;
    EXPECT_EQ(chat.name(), "unknown");
    EXPECT_EQ(chat.default_system(), "");
    return std::string(chat.reason());
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(reason(""), "no chat template");
  has(reason(kLlama2), "does not write <|im_start|>");
  has(reason("{{ '<|im_start|>' }}"), "does not write <|im_end|>");
  has(reason("{{ '<|im_start|>' + '<|im_end|>' }}"), "no turn of the form");
  has(reason(plain_with("'\\n'", "': '")), "\": \" between role and content");
  has(reason(std::string(300'000, 'x')), "longer than");
  const Tokenizer without(small_vocabulary({}, {"<|im_start|>"}));
  const ChatTemplate chat = ChatTemplate::recognise(kPlain, without);
  has(std::string(chat.reason()), "no control token <|im_end|>");
}

TEST(ChatTemplate, TurnsOfAnUnknownTemplateAreErrors) {
  const ChatTemplate chat = recognise(kLlama2);
  const std::vector<std::string> named = {"ChatML", "raw prompts"};
  expect_error(Status::unsupported, named, [&] { chat.open(Role::user); });
  expect_error(Status::unsupported, named, [&] { chat.close(Role::user); });
  expect_error(Status::unsupported, named, [&] { chat.open_text(Role::user); });
  expect_error(Status::unsupported, named, [&] { chat.close_text(Role::user); });
  for (const int32_t role : {-1, 4}) {
    expect_error(Status::invalid_argument, {std::to_string(role), "0", "3"},
                 [&] { recognise(kPlain).open(static_cast<Role>(role)); });
  }
}

// Whatever stands in the file, recognition ends and throws nothing.
TEST(ChatTemplate, BrokenTemplates) {
  for (const std::string_view jinja : {kPlain, kQwen2, kTools, kLlama2}) {
    for (size_t size = 0; size < jinja.size(); ++size) {
      recognise(jinja.substr(0, size));
      recognise(jinja.substr(size));
    }
  }
  std::string nested;
  for (int i = 0; i < 20'000; ++i) nested += "{% set a = '<|' + a + a %}{{ a }}{{ a[";
  recognise(nested);
}

TEST(ChatTemplate, TheModelsOwn) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent; ./dev fetches it";
  const VocabularyData data = vocabulary_from_gguf(gguf::Reader(kModel));
  const Tokenizer tokenizer(data);
  const ChatTemplate chat = ChatTemplate::recognise(data.chat_template, tokenizer);
  ASSERT_TRUE(chat.known()) << chat.reason();
  EXPECT_EQ(chat.default_system(),
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
  EXPECT_EQ(chat.open(Role::user), (Ids{1, 4093, 198}));
  EXPECT_EQ(chat.close(Role::assistant), (Ids{2, 198}));
  EXPECT_EQ(tokenizer.decode(chat.open(Role::assistant), true), "<|im_start|>assistant\n");
}

TEST(JinjaOutline, TextsAndNamesInOrder) {
  const JinjaOutline outline = outline_jinja(
      "a {{ x['y'].z[0] | f('p') }}{%- if q == 'r' -%}  b\n  {% endif %}\n c{{ 'd\\t\"' ~ \"e'\" }}"
      "{% set s.t = 'v' %}");
  std::string written;
  for (const auto& item : outline.items)
    written += item.literal ? item.text : "<" + item.text + ">";
  EXPECT_EQ(written, "a <x.y.z.>b\n cd\t\"e'");
  ASSERT_NE(outline.constant("s.t"), nullptr);
  EXPECT_EQ(*outline.constant("s.t"), "v");
  EXPECT_EQ(outline.constant("s"), nullptr);
}

}  // namespace
}  // namespace tessera::text
