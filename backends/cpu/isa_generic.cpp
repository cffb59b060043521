// Processors without variants: what the compiler makes of the kernels for its default target.
#include "backends/cpu/isa.hpp"

namespace tessera::cpu {

namespace baseline {
const Kernels& table();
extern const PackedKernels kPacked;
}  // namespace baseline

namespace {
bool always() {
  return true;
}
const Kernels& kernels() {
  static const Kernels kernels = [] {
    Kernels k = baseline::table();
    k.packed = baseline::kPacked;
    return k;
  }();
  return kernels;
}
constexpr Isa kIsas[] = {{"baseline", always, kernels}};
}  // namespace

std::span<const Isa> isas() {
  return kIsas;
}

}  // namespace tessera::cpu
