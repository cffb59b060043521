// Faults that a test injects into every `remote` device of the process. All functions: any thread.
#pragma once

#include <cstdint>

namespace tessera::remote {

// A count says how many more times the thing succeeds before one time it fails: 0 is the very next,
// negative never. A fault that has fired stays off.
struct Faults {
  int64_t fail_allocation_after = -1;  // of weights, page memories, programs: out_of_device_memory
  int64_t lose_device_after = -1;      // of submit and wait calls: device_lost; the device whose
                                       // call it is stays lost, its worker is killed
  int64_t fail_step_after = -1;  // of steps: not run, wait throws `internal`; the device lives
  uint32_t delay_us = 0;         // each step takes so much longer
  uint32_t jitter_seed = 0;      // not 0: delays vary between 0 and delay_us
};

// Replaces the faults of the process. set_faults({}) turns all off.
void set_faults(const Faults& faults);

// The faults with what is left of their counts, to see which have fired.
Faults faults();

// ---- For the backend

// Each counts one thing that is about to happen and says whether it is to fail.
bool allocation_fails();
bool device_call_loses();
bool step_fails();

// How much longer the next step takes, in microseconds.
uint32_t next_delay_us();

}  // namespace tessera::remote
