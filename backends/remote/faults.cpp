#include "backends/remote/faults.hpp"

#include <mutex>

namespace tessera::remote {
namespace {

std::mutex mutex;  // of both
Faults current;
uint64_t jitter_state = 0;

// Counts one thing; true when it is the one that fails.
bool take(int64_t Faults::*count) {
  std::lock_guard lock(mutex);
  int64_t& left = current.*count;
  if (left < 0) return false;
  return left-- == 0;
}

}  // namespace

void set_faults(const Faults& faults) {
  std::lock_guard lock(mutex);
  current = faults;
  jitter_state = faults.jitter_seed;
}

Faults faults() {
  std::lock_guard lock(mutex);
  return current;
}

bool allocation_fails() {
  return take(&Faults::fail_allocation_after);
}
bool device_call_loses() {
  return take(&Faults::lose_device_after);
}
bool step_fails() {
  return take(&Faults::fail_step_after);
}

uint32_t next_delay_us() {
  std::lock_guard lock(mutex);
  if (current.jitter_seed == 0 || current.delay_us == 0) return current.delay_us;
  // Knuth's MMIX generator; the high bits are the good ones.
  jitter_state = jitter_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>((jitter_state >> 33) % (uint64_t{current.delay_us} + 1));
}

}  // namespace tessera::remote
