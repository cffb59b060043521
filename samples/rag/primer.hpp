// The library's primer: text of its own that passages are computed behind, as if they stood in the
// middle of such a prompt. It is a part of what computed passages are kept by, so it is taken once.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "samples/rag/library.hpp"

namespace rag {

inline constexpr std::size_t kPrimerTokens = 512;

// The bytes of the first `tokens` tokens of a text; they may end inside a character.
using TokenCutter = std::function<std::string(std::string_view text, std::size_t tokens)>;

// Stores the first kPrimerTokens tokens of the library's text, where it has as many and has no
// primer yet, or `again` is set. Whether it did; `cut` is not called where it did not.
bool take_primer(Library& library, bool again, const TokenCutter& cut);

}  // namespace rag
