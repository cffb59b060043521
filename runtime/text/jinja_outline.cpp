#include "runtime/text/jinja_outline.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace tessera::text {
namespace {

using Items = std::vector<JinjaOutline::Item>;

constexpr std::string_view kWhite = " \t\r\n";
constexpr int kMaxExpansions = 64;  // variables replaced by what they were set to

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_name(char c) {
  return is_name_start(c) || (c >= '0' && c <= '9');
}

void append(Items* items, bool literal, std::string_view text) {
  if (text.empty()) return;
  if (literal && !items->empty() && items->back().literal) {
    items->back().text += text;
  } else {
    items->push_back({literal, std::string(text)});
  }
}

// Reads the inside of one tag.
class Expression {
 public:
  explicit Expression(std::string_view text) : rest_(text) {}

  // The next name without its path, if one stands here.
  std::string_view word() {
    skip_white();
    if (rest_.empty() || !is_name_start(rest_[0])) return {};
    size_t size = 1;
    while (size < rest_.size() && is_name(rest_[size])) ++size;
    return take(size);
  }

  bool accept(char c) {
    skip_white();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  // Everything to the end, as written: texts and the paths of values.
  Items values() {
    Items items;
    for (skip_white(); !rest_.empty(); skip_white()) {
      if (rest_[0] == '\'' || rest_[0] == '"') {
        append(&items, true, string());
      } else if (is_name_start(rest_[0])) {
        value(&items);
      } else if (accept('|')) {  // a filter is not a value
        word();
        if (!rest_.empty() && rest_[0] == '(') skip_brackets();
      } else {
        rest_.remove_prefix(1);  // an operator, a number, a grouping bracket
      }
    }
    return items;
  }

 private:
  std::string_view take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  void skip_white() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(kWhite), rest_.size()));
  }

  // A quoted text with its escapes.
  std::string string() {
    const char quote = rest_[0];
    std::string text;
    size_t at = 1;
    for (; at < rest_.size() && rest_[at] != quote; ++at) {
      if (rest_[at] != '\\' || at + 1 == rest_.size()) {
        text.push_back(rest_[at]);
        continue;
      }
      const char c = rest_[++at];
      text.push_back(c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c);
    }
    rest_.remove_prefix(std::min(at + 1, rest_.size()));
    return text;
  }

  // From an opening bracket to behind its partner.
  void skip_brackets() {
    int depth = 0;
    while (!rest_.empty()) {
      const char c = rest_[0];
      if (c == '\'' || c == '"') {
        string();
        continue;
      }
      if (c == '(' || c == '[') ++depth;
      if (c == ')' || c == ']') --depth;
      rest_.remove_prefix(1);
      if (depth == 0) return;
    }
  }

  // A name with what follows it: .attribute, ['item'], [0], (arguments).
  void value(Items* items) {
    std::string path(word());
    if (path == "if") {  // VALUE if CONDITION else VALUE: both values, not the condition
      while (!rest_.empty() && word() != "else") skip_one();
      return;
    }
    while (!rest_.empty()) {
      if (rest_[0] == '.') {
        rest_.remove_prefix(1);
        path += '.';
        path += word();
      } else if (rest_[0] == '[') {
        Expression inside = *this;
        inside.accept('[');
        inside.skip_white();
        path += '.';
        if (!inside.rest_.empty() && (inside.rest_[0] == '\'' || inside.rest_[0] == '"')) {
          path += inside.string();
        }
        skip_brackets();
      } else if (rest_[0] == '(') {
        skip_brackets();
      } else {
        break;
      }
    }
    if (path != "raise_exception" && path != "else") append(items, false, path);
  }

  // One text, bracketed group or character of a condition.
  void skip_one() {
    skip_white();
    if (rest_.empty()) return;
    if (rest_[0] == '\'' || rest_[0] == '"') {
      string();
    } else if (rest_[0] == '(' || rest_[0] == '[') {
      skip_brackets();
    } else if (!is_name_start(rest_[0])) {
      rest_.remove_prefix(1);
    }
  }

  std::string_view rest_;
};

class Outliner {
 public:
  JinjaOutline run(std::string_view jinja) {
    bool trim_all = false;      // the tag before ended with -}} or -%}
    bool trim_newline = false;  // it was a statement or a comment
    while (!jinja.empty()) {
      const size_t open = find_tag(jinja);
      std::string_view text = jinja.substr(0, open);
      if (trim_all) text.remove_prefix(std::min(text.find_first_not_of(kWhite), text.size()));
      if (trim_newline && text.starts_with('\n')) text.remove_prefix(1);
      if (open == std::string_view::npos) {
        append(&outline_.items, true, text);
        break;
      }
      const char kind = jinja[open + 1];
      const size_t close = find_close(jinja, open);
      std::string_view inside = jinja.substr(open + 2, close - open - 2);
      append(&outline_.items, true, trimmed_end(text, kind, inside.starts_with('-')));
      if (inside.starts_with('-') || inside.starts_with('+')) inside.remove_prefix(1);
      trim_all = inside.ends_with('-');
      trim_newline = kind != '{';
      if (trim_all) inside.remove_suffix(1);
      if (kind == '{') write(Expression(inside).values());
      if (kind == '%') statement(inside);
      jinja.remove_prefix(std::min(close + 2, jinja.size()));
    }
    return std::move(outline_);
  }

 private:
  static size_t find_tag(std::string_view jinja) {
    for (size_t at = jinja.find('{'); at != std::string_view::npos; at = jinja.find('{', at + 1)) {
      if (at + 1 < jinja.size() &&
          std::string_view("{%#").find(jinja[at + 1]) != std::string::npos) {
        return at;
      }
    }
    return std::string_view::npos;
  }

  // Offset of the }}, %} or #} that closes the tag at `open`, or the end. Quoted text is skipped.
  static size_t find_close(std::string_view jinja, size_t open) {
    const char kind = jinja[open + 1] == '{' ? '}' : jinja[open + 1];
    char quote = 0;
    for (size_t at = open + 2; at + 1 < jinja.size(); ++at) {
      const char c = jinja[at];
      if (quote != 0) {
        if (c == '\\') {
          ++at;
        } else if (c == quote) {
          quote = 0;
        }
      } else if ((c == '\'' || c == '"') && kind != '#') {
        quote = c;
      } else if (c == kind && jinja[at + 1] == '}') {
        return at;
      }
    }
    return jinja.size();
  }

  // Text before a tag: {{- and {%- trim all white space, a statement its own indentation.
  static std::string_view trimmed_end(std::string_view text, char kind, bool all) {
    if (all) return text.substr(0, text.find_last_not_of(kWhite) + 1);
    if (kind == '{') return text;
    const size_t end = text.find_last_not_of(" \t") + 1;
    return end == 0 || text[end - 1] == '\n' ? text.substr(0, end) : text;
  }

  void statement(std::string_view inside) {
    Expression expression(inside);
    if (expression.word() != "set") return;
    std::string name(expression.word());
    while (expression.accept('.')) {
      name += '.';
      name += expression.word();
    }
    if (!expression.accept('=')) return;
    Items items = expression.values();
    if (items.size() == 1 && items[0].literal) {
      outline_.constants.push_back({std::move(name), std::move(items[0].text)});
    } else if (std::any_of(items.begin(), items.end(), [](const auto& item) {
                 return item.literal && item.text.find("<|") != std::string::npos;
               })) {
      markup_[std::move(name)] = std::move(items);
    }
  }

  // A variable that was set to markup counts as that markup.
  void write(const Items& items) {
    for (const auto& [literal, text] : items) {
      const auto markup = literal ? markup_.end() : markup_.find(text);
      if (markup == markup_.end() || expansions_ == kMaxExpansions) {
        append(&outline_.items, literal, text);
        continue;
      }
      ++expansions_;
      for (const auto& item : markup->second) append(&outline_.items, item.literal, item.text);
    }
  }

  JinjaOutline outline_;
  std::map<std::string, Items, std::less<>> markup_;
  int expansions_ = 0;
};

}  // namespace

const std::string* JinjaOutline::constant(std::string_view name) const {
  for (const Constant& constant : constants) {
    if (constant.name == name && !constant.value.empty()) return &constant.value;
  }
  return nullptr;
}

JinjaOutline outline_jinja(std::string_view jinja) {
  return Outliner().run(jinja);
}

}  // namespace tessera::text
