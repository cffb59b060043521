// x86-64: which vector extensions the processor has (CPUID) and the operating system saves
// (XGETBV).
#include <cpuid.h>

#include <cstdint>

#include "backends/cpu/isa.hpp"

namespace tessera::cpu {

namespace baseline {
const Kernels& table();
extern const PackedKernels kPacked;
}  // namespace baseline
namespace avx2 {
const Kernels& table();
extern const PackedKernels kPacked;
}  // namespace avx2
namespace avxvnni {
extern const PackedKernels kPacked;
}
namespace avx512 {
const Kernels& table();
}
namespace avx512vnni {
extern const PackedKernels kPacked;
}

namespace {

struct Features {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint32_t leaf7_ecx = 0;
  uint32_t leaf71_eax = 0;
  uint64_t saved_state = 0;  // XCR0: register files that the operating system saves
};

Features detect() {
  Features f;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  f.leaf1_ecx = c;
  if (c & bit_OSXSAVE) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    f.saved_state = uint64_t{high} << 32 | low;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    f.leaf7_ebx = b;
    f.leaf7_ecx = c;
  }
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) f.leaf71_eax = a;
  return f;
}

const Features& features() {
  static const Features f = detect();
  return f;
}

constexpr bool has(uint64_t bits, uint64_t wanted) {
  return (bits & wanted) == wanted;
}

bool runs_baseline() {
  return true;
}

bool runs_avx2() {
  constexpr uint64_t kXmmYmm = 0x6;
  return has(features().saved_state, kXmmYmm) &&
         has(features().leaf1_ecx, bit_AVX | bit_FMA | bit_F16C) &&
         has(features().leaf7_ebx, bit_AVX2);
}

bool runs_avx512() {
  constexpr uint64_t kXmmYmmMaskZmm = 0xe6;
  return runs_avx2() && has(features().saved_state, kXmmYmmMaskZmm) &&
         has(features().leaf7_ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
}

bool runs_avxvnni() {
  return runs_avx2() && has(features().leaf71_eax, bit_AVXVNNI);
}

bool runs_avx512vnni() {
  return runs_avx512() && has(features().leaf7_ecx, bit_AVX512VNNI);
}

constexpr char kBaseline[] = "baseline";
constexpr char kAvx2[] = "avx2";
constexpr char kAvxVnni[] = "avxvnni";
constexpr char kAvx512[] = "avx512";
constexpr char kAvx512Vnni[] = "avx512vnni";

constexpr Isa kIsas[] = {
    {kBaseline, runs_baseline, combined<baseline::table, baseline::kPacked, kBaseline>},
    {kAvx2, runs_avx2, combined<avx2::table, avx2::kPacked, kAvx2>},
    {kAvxVnni, runs_avxvnni, combined<avx2::table, avxvnni::kPacked, kAvxVnni>},
    {kAvx512, runs_avx512, combined<avx512::table, avx2::kPacked, kAvx512>},
    {kAvx512Vnni, runs_avx512vnni, combined<avx512::table, avx512vnni::kPacked, kAvx512Vnni>},
};

}  // namespace

std::span<const Isa> isas() {
  return kIsas;
}

}  // namespace tessera::cpu
