#include "tests/bench/instruction_sets.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace tessera::bench {

#if defined(__x86_64__)
namespace {

struct InstructionSet {
  const char* name;
  void (*try_it)();
};

// AVX512 is what ggml's option of that name and our own kernels take for granted: F, CD, VL, DQ
// and BW.
const InstructionSet kSets[] = {
    {"sse4.2",
     [] {
       __asm__ volatile("pcmpgtq %%xmm0, %%xmm0" ::: "xmm0");
     }},
    {"avx",
     [] {
       __asm__ volatile("vaddps %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
     }},
    {"avx2",
     [] {
       __asm__ volatile("vpaddd %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
     }},
    {"fma",
     [] {
       __asm__ volatile("vfmadd231ps %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
     }},
    {"f16c",
     [] {
       __asm__ volatile("vcvtph2ps %%xmm0, %%ymm0" ::: "xmm0");
     }},
    {"bmi2",
     [] {
       __asm__ volatile("pdepq %%rax, %%rax, %%rax" ::: "rax");
     }},
    {"avxvnni",
     [] {
       __asm__ volatile("%{vex%} vpdpbusd %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
     }},
    {"avx512",
     [] {
       __asm__ volatile(
           "vpaddd %%zmm0, %%zmm0, %%zmm0\n\t"   // F
           "vplzcntd %%zmm0, %%zmm0\n\t"         // CD
           "vplzcntd %%ymm0, %%ymm0\n\t"         // VL
           "vpmullq %%zmm0, %%zmm0, %%zmm0\n\t"  // DQ
           "vpaddb %%zmm0, %%zmm0, %%zmm0" ::    // BW
           : "xmm0");
     }},
    {"avx512vnni",
     [] {
       __asm__ volatile("vpdpbusd %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
     }},
    {"avx512vbmi",
     [] {
       __asm__ volatile("vpermb %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
     }},
    {"avx512bf16",
     [] {
       __asm__ volatile("vdpbf16ps %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
     }},
};

bool survives(void (*try_it)()) {
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGILL, SIG_DFL);  // a sanitizer would report it
    try_it();
    _exit(0);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::vector<std::string> usable_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : kSets) {
    if (survives(set.try_it)) names.emplace_back(set.name);
  }
  return names;
}

#else

std::vector<std::string> usable_instruction_sets() {
  return {};
}

#endif

}  // namespace tessera::bench
