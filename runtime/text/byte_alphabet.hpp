// The alphabet in which GPT-2 style vocabularies spell bytes: printable Latin-1 characters stand
// for themselves, the other 68 bytes for U+0100 ... U+0143 in order, so that no token holds a
// space or a control character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::text {

// The character that spells `byte`, as UTF-8.
std::string spell_byte(uint8_t byte);

// The bytes that `spelled` (UTF-8 over the alphabet) stands for; nothing if a character is not of
// the alphabet.
std::optional<std::string> unspell(std::string_view spelled);

}  // namespace tessera::text
