// Memory of weights, carved out of large regions: small matrices share huge pages, and matrices
// that are read one after the other lie one behind the other.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "backends/cpu/host_memory.hpp"

namespace tessera::cpu {

// Any thread may allocate. What it gave outlives it.
class Arena {
 public:
  // Zeroed bytes, aligned to 64. A region goes when the last slice of it does.
  struct Slice {
    std::shared_ptr<const HostMemory> region;
    uint8_t* data = nullptr;
    uint64_t bytes = 0;
  };

  // `what` names the use in messages. Throws out_of_host_memory.
  Slice allocate(uint64_t bytes, const std::string& what);

 private:
  std::mutex mutex_;
  std::weak_ptr<const HostMemory> region_;  // the newest that is not full
  uint64_t used_ = 0;                       // bytes of it
};

}  // namespace tessera::cpu
