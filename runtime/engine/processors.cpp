#include "runtime/engine/processors.hpp"

#include <algorithm>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace tessera::engine {

uint32_t usable_processors() {
#ifdef __linux__
  cpu_set_t mask;  // holds 1024; of larger machines all are taken
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    return std::max(1u, static_cast<uint32_t>(CPU_COUNT(&mask)));
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace tessera::engine
