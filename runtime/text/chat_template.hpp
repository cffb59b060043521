// How a model marks the turns of a conversation.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

class Tokenizer;

enum class Role : int32_t { system = 0, user = 1, assistant = 2, tool = 3 };

// A template of the ChatML family: <|im_start|>ROLE\nCONTENT<|im_end|>\n. Recognised from the
// Jinja text, which is not run: conditions on tools or on the order of roles are not followed.
// A value that refers to nothing: copyable, and safe from any thread.
class ChatTemplate {
 public:
  // Never throws for what `jinja` says: a template that is not understood is not known(), and
  // reason() says why. `tokenizer` must have the marks as control or user-defined tokens.
  static ChatTemplate recognise(std::string_view jinja, const Tokenizer& tokenizer);

  bool known() const { return reason_.empty(); }
  // "chatml", or "unknown".
  std::string_view name() const { return known() ? "chatml" : "unknown"; }
  // Why the template is not known; empty if it is.
  std::string_view reason() const { return reason_; }

  // Tokens and text that stand before and after the content of a turn. The content goes between
  // them, encoded without parse_special. open(assistant) is what a reply is generated behind.
  // All four throw unsupported with the reason when the template is not known, and
  // invalid_argument for a number that is no role.
  const std::vector<int32_t>& open(Role role) const;
  const std::vector<int32_t>& close(Role role) const;
  const std::string& open_text(Role role) const;
  const std::string& close_text(Role role) const;

  // Content of the system turn that the template writes when a conversation has none; empty if it
  // writes none.
  std::string_view default_system() const { return default_system_; }

 private:
  struct Mark {
    std::string text;
    std::vector<int32_t> ids;
  };
  struct Turn {
    Mark open;
    Mark close;
  };
  const Turn& turn(Role role) const;

  std::string reason_;
  std::string default_system_;
  std::array<Turn, 4> turns_;
};

}  // namespace tessera::text
