// Which instruction sets this build has kernels for, and which of them may run here.
#pragma once

#include <span>
#include <string_view>

#include "backends/cpu/kernels.hpp"

namespace tessera::cpu {

// One compiled variant. Variants are listed from the slowest to the fastest; the first runs on
// every processor the program runs on.
struct Isa {
  const char* name;
  bool (*supported)();  // by the processor and by the operating system
  const Kernels& (*kernels)();
};

// The fp32 kernels of one instruction set with the packed ones of another, for Isa::kernels.
template <const Kernels& (*floats)(), const PackedKernels& packed, const char* name>
const Kernels& combined() {
  static const Kernels kernels = [] {
    Kernels k = floats();
    k.packed = packed;
    k.name = name;
    return k;
  }();
  return kernels;
}

// All variants in this build (isa_x86.cpp, isa_arm.cpp or isa_generic.cpp). Any thread.
std::span<const Isa> isas();

// Kernels of the fastest variant that is supported here. Any thread.
const Kernels& best_kernels();

// Kernels by name. Throws not_found with the names that exist, unsupported where this machine
// cannot run them. Any thread.
const Kernels& kernels_named(std::string_view name);

}  // namespace tessera::cpu
