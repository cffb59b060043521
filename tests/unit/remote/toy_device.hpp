// A device for tests of the worker's service: it stores what it is given and computes a checksum
// instead of logits, so that an argument that arrives wrong changes the result.
#pragma once

#include <memory>

#include "backends/backend.hpp"

namespace tessera::remote::test {

// What a toy device is to do wrong; shared with the test.
struct ToyFaults {
  bool no_memory = false;       // create_pages throws std::bad_alloc
  bool no_host_memory = false;  // compile throws out_of_host_memory
  bool breaks = false;          // wait throws std::runtime_error
};

std::unique_ptr<Backend> make_toy_device(const BackendOptions& options,
                                         std::shared_ptr<ToyFaults> faults);

}  // namespace tessera::remote::test
