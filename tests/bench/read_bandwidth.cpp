#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "tests/bench/limits.hpp"
#include "tests/bench/together.hpp"

namespace tessera::bench {
namespace {

constexpr size_t kBytes = size_t{512} << 20;
constexpr size_t kPage = size_t{2} << 20;
constexpr int kPasses = 7;

using Reader = uint64_t (*)(const uint64_t*, size_t);

// Becomes plain vector loads of whatever width its caller is compiled for.
[[gnu::always_inline]] inline uint64_t read_all(const uint64_t* words, size_t count) {
  uint64_t mixed = 0;
  for (size_t i = 0; i < count; ++i) mixed ^= words[i];
  return mixed;
}

uint64_t read_baseline(const uint64_t* words, size_t count) {
  return read_all(words, count);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] uint64_t read_avx2(const uint64_t* words, size_t count) {
  return read_all(words, count);
}
#endif

Reader best_reader([[maybe_unused]] const std::vector<std::string>& sets) {
#if defined(__x86_64__)
  // 32 bytes a cycle: more than memory delivers to a core.
  if (std::find(sets.begin(), sets.end(), "avx2") != sets.end()) return read_avx2;
#endif
  return read_baseline;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

}  // namespace

double read_bandwidth(uint32_t threads, const std::vector<std::string>& instruction_sets) {
  const Reader reader = best_reader(instruction_sets);
  const std::unique_ptr<void, Free> memory(std::aligned_alloc(kPage, kBytes));
  if (!memory) throw std::bad_alloc();
  madvise(memory.get(), kBytes, MADV_HUGEPAGE);  // as weights may lie; a refusal does no harm
  uint64_t* words = static_cast<uint64_t*>(memory.get());
  const size_t part = kBytes / sizeof(uint64_t) / threads;

  // Each thread writes its part first, so that the pages lie near its processor.
  run_together(threads, [&](uint32_t i) {
    std::memset(words + i * part, static_cast<int>(i + 1), part * sizeof(uint64_t));
  });
  std::vector<uint64_t> mixed(threads);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double seconds =
        run_together(threads, [&](uint32_t i) { mixed[i] = reader(words + i * part, part); });
    best = std::max(best, static_cast<double>(part * threads * sizeof(uint64_t)) / seconds);
  }
  // Keeps the reads alive.
  volatile uint64_t sink = 0;
  for (const uint64_t value : mixed) sink = sink ^ value;
  return best;
}

}  // namespace tessera::bench
