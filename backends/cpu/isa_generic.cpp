// Processors without variants: what the compiler makes of the kernels for its default target.
#include "backends/cpu/isa.hpp"

namespace tessera::cpu {

namespace baseline {
const Kernels& table();
}

namespace {
bool always() {
  return true;
}
constexpr Isa kIsas[] = {{"baseline", always, baseline::table}};
}  // namespace

std::span<const Isa> isas() {
  return kIsas;
}

}  // namespace tessera::cpu
