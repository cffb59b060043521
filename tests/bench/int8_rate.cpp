#include <algorithm>

#include "tests/bench/limits.hpp"
#include "tests/bench/together.hpp"

namespace tessera::bench {

#if defined(__x86_64__)
namespace {

constexpr int kPasses = 5;
constexpr uint64_t kIterations = 4'000'000;
constexpr uint64_t kAccumulators = 12;  // enough to hide the latency of two units

struct Instruction {
  const char* needs;
  const char* name;
  uint64_t macs;
  void (*loop)(uint64_t iterations);
};

// Twelve dot products an iteration, each into a register of its own.
void dot_zmm(uint64_t iterations) {
  __asm__ volatile(
      "vpternlogd $255, %%zmm12, %%zmm12, %%zmm12\n\t"
      "vpternlogd $255, %%zmm13, %%zmm13, %%zmm13\n\t"
      "1:\n\t"
      ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm\\r\n\t"
      ".endr\n\t"
      "dec %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(iterations)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "cc");
}

void dot_ymm(uint64_t iterations) {
  __asm__ volatile(
      "vpcmpeqd %%ymm12, %%ymm12, %%ymm12\n\t"
      "vpcmpeqd %%ymm13, %%ymm13, %%ymm13\n\t"
      "1:\n\t"
      ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
      "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm\\r\n\t"
      ".endr\n\t"
      "dec %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(iterations)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "cc");
}

const Instruction kInstructions[] = {
    {"avx512vnni", "vpdpbusd zmm", 64, dot_zmm},
    {"avxvnni", "vpdpbusd ymm", 32, dot_ymm},
};

}  // namespace

Int8Rate int8_rate(uint32_t threads, const std::vector<std::string>& instruction_sets) {
  Int8Rate best;
  for (const Instruction& instruction : kInstructions) {
    if (std::find(instruction_sets.begin(), instruction_sets.end(), instruction.needs) ==
        instruction_sets.end()) {
      continue;
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      const double seconds =
          run_together(threads, [&](uint32_t) { instruction.loop(kIterations); });
      const double rate =
          static_cast<double>(kIterations * kAccumulators * instruction.macs * threads) / seconds;
      if (rate > best.macs_per_second) best = {instruction.name, rate};
    }
  }
  return best;
}

#else

Int8Rate int8_rate(uint32_t, const std::vector<std::string>&) {
  return {};
}

#endif

}  // namespace tessera::bench
