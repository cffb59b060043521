// The primer of contexts that bring none: neutral prose of several kinds, written for this library.
#pragma once

#include <string_view>

namespace tessera::engine {

// English, about 400 tokens. Part of the identity of every chunk behind it: a change makes all
// stored chunks useless.
std::string_view neutral_primer();

}  // namespace tessera::engine
