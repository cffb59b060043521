#pragma once

#include <cstdint>

namespace tessera::engine {

// Processors that the calling thread may run on; at least 1.
uint32_t usable_processors();

}  // namespace tessera::engine
