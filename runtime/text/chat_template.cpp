#include "runtime/text/chat_template.hpp"

#include <optional>
#include <span>

#include "backends/error.hpp"
#include "runtime/text/jinja_outline.hpp"
#include "runtime/text/tokenizer.hpp"

namespace tessera::text {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::string_view kRoleNames[] = {"system", "user", "assistant", "tool"};
constexpr size_t kMaxTemplate = 256 * 1024;  // bytes; the longest in use have about 20,000

using Item = JinjaOutline::Item;

// What stands around the content of a turn, beside the two marks and the role.
struct Shape {
  std::string separator;  // between role and content
  std::string tail;       // behind the closing mark
};

// Whether the value is the member `last` of something, or a variable of that name.
bool is_value(const Item& item, std::string_view last) {
  if (item.literal || !item.text.ends_with(last)) return false;
  return item.text.size() == last.size() || item.text[item.text.size() - last.size() - 1] == '.';
}

// The shape of a turn whose role ends where items[0] does: separator, content, closing mark.
std::optional<Shape> shape_behind(std::string_view separator, std::span<const Item> items) {
  if (items.size() < 2 || !is_value(items[0], "content")) return std::nullopt;
  if (!items[1].literal || !items[1].text.starts_with(kEnd)) return std::nullopt;
  const bool newline = std::string_view(items[1].text).substr(kEnd.size()).starts_with('\n');
  return Shape{std::string(separator), newline ? "\n" : ""};
}

// Looks for a turn with the role as a value, or written out for the user.
std::optional<Shape> find_shape(std::span<const Item> items) {
  for (size_t i = 0; i + 2 < items.size(); ++i) {
    if (!items[i].literal) continue;
    const std::string_view text = items[i].text;
    std::optional<Shape> shape;
    if (text.ends_with(kStart) && is_value(items[i + 1], "role") && items[i + 2].literal) {
      shape = shape_behind(items[i + 2].text, items.subspan(i + 3));
    } else if (const size_t mark = text.rfind(kStart); mark != text.npos) {
      const std::string_view behind = text.substr(mark + kStart.size());
      if (behind.starts_with("user")) shape = shape_behind(behind.substr(4), items.subspan(i + 1));
    }
    if (shape) return shape;
  }
  return std::nullopt;
}

// A system turn that is written out, or whose content is a variable that was set to a text.
std::string find_default_system(const JinjaOutline& outline, const std::string& separator) {
  const std::string opening = std::string(kStart) + "system" + separator;
  const std::vector<Item>& items = outline.items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].literal) continue;
    const std::string& text = items[i].text;
    for (size_t at = text.find(opening); at != text.npos; at = text.find(opening, at + 1)) {
      const size_t begin = at + opening.size();
      const size_t end = text.find("<|", begin);
      if (end != text.npos && end > begin && text.compare(end, kEnd.size(), kEnd) == 0) {
        return text.substr(begin, end - begin);
      }
    }
    if (text.ends_with(opening) && i + 2 < items.size() && items[i + 2].literal &&
        items[i + 2].text.starts_with(kEnd)) {
      if (const std::string* value = outline.constant(items[i + 1].text)) return *value;
    }
  }
  return {};
}

// Whether tool results are written as Hermes and Qwen do: in a user turn, inside a tag.
bool has_tool_response(const JinjaOutline& outline) {
  bool opens = false;
  bool closes = false;
  for (const Item& item : outline.items) {
    if (!item.literal) continue;
    opens = opens || item.text.find("\n<tool_response>\n") != std::string::npos;
    closes = closes || item.text.find("\n</tool_response>") != std::string::npos;
  }
  return opens && closes;
}

bool writes(const JinjaOutline& outline, std::string_view mark) {
  for (const Item& item : outline.items) {
    if (item.literal && item.text.find(mark) != std::string::npos) return true;
  }
  return false;
}

bool is_mark(const Tokenizer& tokenizer, std::string_view text) {
  const auto id = tokenizer.find(text);
  if (!id) return false;
  return tokenizer.is_control(*id) || tokenizer.kind(*id) == TokenKind::user_defined;
}

}  // namespace

ChatTemplate ChatTemplate::recognise(std::string_view jinja, const Tokenizer& tokenizer) {
  ChatTemplate result;
  const auto unknown = [&](const std::string& reason) {
    result.reason_ = reason;
    return result;
  };
  if (jinja.empty()) return unknown("the model has no chat template (tokenizer.chat_template)");
  if (jinja.size() > kMaxTemplate) return unknown("the chat template is longer than 256 KiB");

  const JinjaOutline outline = outline_jinja(jinja);
  for (const std::string_view mark : {kStart, kEnd}) {
    if (!writes(outline, mark)) {
      return unknown("the chat template does not write " + std::string(mark) +
                     "; only the ChatML family is supported");
    }
    if (!is_mark(tokenizer, mark)) {
      return unknown("the vocabulary has no control token " + std::string(mark) +
                     ", which the chat template writes");
    }
  }
  const std::optional<Shape> shape = find_shape(outline.items);
  if (!shape) {
    return unknown("the chat template has the marks of ChatML, but no turn of the form " +
                   std::string(kStart) + "role, content, " + std::string(kEnd));
  }
  if (shape->separator != "\n" && !is_mark(tokenizer, shape->separator)) {
    return unknown("the chat template writes \"" + shape->separator +
                   "\" between role and content; supported are a newline or one control token");
  }

  result.default_system_ = find_default_system(outline, shape->separator);
  const bool tool_response = has_tool_response(outline);
  for (size_t i = 0; i < result.turns_.size(); ++i) {
    const bool in_user_turn = tool_response && i == static_cast<size_t>(Role::tool);
    Turn& turn = result.turns_[i];
    turn.open.text = kStart;
    turn.open.text += kRoleNames[in_user_turn ? static_cast<size_t>(Role::user) : i];
    turn.open.text += shape->separator;
    if (in_user_turn) {
      turn.open.text += "<tool_response>\n";
      turn.close.text = "\n</tool_response>";
    }
    turn.close.text += kEnd;
    turn.close.text += shape->tail;
    turn.open.ids = tokenizer.encode(turn.open.text, true);
    turn.close.ids = tokenizer.encode(turn.close.text, true);
  }
  return result;
}

const ChatTemplate::Turn& ChatTemplate::turn(Role role) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(role));
  if (index >= turns_.size()) {
    fail(Status::invalid_argument, "role " + std::to_string(static_cast<int32_t>(role)) +
                                       " is none; known are 0 (system) to 3 (tool)");
  }
  if (!known()) {
    fail(Status::unsupported, reason_ + "; raw prompts work without a template");
  }
  return turns_[index];
}

const std::vector<int32_t>& ChatTemplate::open(Role role) const {
  return turn(role).open.ids;
}
const std::vector<int32_t>& ChatTemplate::close(Role role) const {
  return turn(role).close.ids;
}
const std::string& ChatTemplate::open_text(Role role) const {
  return turn(role).open.text;
}
const std::string& ChatTemplate::close_text(Role role) const {
  return turn(role).close.text;
}

}  // namespace tessera::text
