// The CPU backend: device "cpu".
#pragma once

#include <memory>
#include <string_view>

#include "backends/backend.hpp"

namespace tessera::cpu {

// Opens the CPU with the kernels of one instruction set ("baseline", "avx2", "avx512"), for tests
// and benchmarks; open_device takes the best. Throws not_found, unsupported. Any thread.
std::unique_ptr<Backend> open_with_isa(std::string_view isa, const BackendOptions& options);

}  // namespace tessera::cpu
