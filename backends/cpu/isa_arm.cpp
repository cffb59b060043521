// AArch64: NEON is everywhere; SDOT where the operating system reports it.
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "backends/cpu/isa.hpp"

namespace tessera::cpu {

namespace baseline {
const Kernels& table();
extern const PackedKernels kPacked;
}  // namespace baseline
namespace neon {
extern const PackedKernels kPacked;
}
namespace dotprod {
extern const PackedKernels kPacked;
}

namespace {

bool always() {
  return true;
}

bool runs_dotprod() {
#if defined(__linux__)
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof(has);
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}

// The baseline is NEON: its fp32 kernels are those of all.
constexpr char kBaseline[] = "baseline";
constexpr char kNeon[] = "neon";
constexpr char kDotprod[] = "dotprod";

constexpr Isa kIsas[] = {
    {kBaseline, always, combined<baseline::table, baseline::kPacked, kBaseline>},
    {kNeon, always, combined<baseline::table, neon::kPacked, kNeon>},
    {kDotprod, runs_dotprod, combined<baseline::table, dotprod::kPacked, kDotprod>},
};

}  // namespace

std::span<const Isa> isas() {
  return kIsas;
}

}  // namespace tessera::cpu
