// Host memory that runs out when a test says so: who links this has its operator new and mmap
// replaced.
#pragma once

#include <atomic>
#include <cstdint>

namespace tessera::test {

// Allocations that still succeed; negative: no fault. Then g_length of them fail.
extern std::atomic<int64_t> g_before;
extern std::atomic<int64_t> g_length;
extern std::atomic<int64_t> g_failed;
extern std::atomic<int64_t> g_count;                  // allocations, ever
extern constinit thread_local int64_t g_before_here;  // of this thread's only, one fails
extern std::atomic<int64_t> g_maps_before;            // of maps only, one fails

#ifdef __SANITIZE_THREAD__  // maps its shadow by mmap, before a replacement could answer
inline constexpr bool kMapsFail = false;
#else
inline constexpr bool kMapsFail = true;
#endif

}  // namespace tessera::test
