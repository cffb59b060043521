// Damages a valid GGUF file in one of the ways that files get damaged, or forged.
#pragma once

#include <string>

#include "tests/fuzz/layout.hpp"
#include "tests/fuzz/random.hpp"

namespace tessera::test {

// One to three of: flipped bits, a field set to an extreme value, a cut, bytes copied, inserted or
// removed, a run of data overwritten. `layout` is find_fields(file). Depends on `random` only.
std::string mutate(std::string file, const Layout& layout, Random& random);

}  // namespace tessera::test
