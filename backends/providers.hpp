// The providers that are built in. A backend that is off is one that reports why
// (unavailable.cpp).
#pragma once

#include "backends/registry.hpp"

namespace tessera {

Provider cpu_provider();
Provider cuda_provider();
Provider vulkan_provider();

}  // namespace tessera
