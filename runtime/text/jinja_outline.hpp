// What a Jinja chat template writes, in the order of its text, without running it. Enough to see
// how turns are marked; tests, loops and filters are not followed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

struct JinjaOutline {
  struct Item {
    bool literal;      // text that the template writes itself; neighbours are joined
    std::string text;  // that text, or the name of the value: message['role'] is "message.role"
  };
  struct Constant {
    std::string name;  // of {% set name = 'value' %}
    std::string value;
  };
  std::vector<Item> items;  // of all branches, one after another
  std::vector<Constant> constants;

  // The value that `name` was first set to as a non-empty text, or nullptr.
  const std::string* constant(std::string_view name) const;
};

// Never fails: what is not understood is left out. White space around tags is trimmed as Hugging
// Face renders chat templates (trim_blocks, lstrip_blocks). Linear in the length of `jinja`.
JinjaOutline outline_jinja(std::string_view jinja);

}  // namespace tessera::text
