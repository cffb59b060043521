// Zeroed anonymous memory that the system commits page by page as it is touched; huge pages from
// 2 MiB on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tessera::cpu {

class HostMemory {
 public:
  HostMemory() = default;
  // `bytes` zero bytes aligned to at least 64. `what` names the use in messages. Throws
  // out_of_host_memory.
  HostMemory(uint64_t bytes, const std::string& what);
  ~HostMemory();
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;

  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  uint64_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

// a * b and a + b; throw out_of_host_memory naming `what` where the result does not fit 64 bits.
uint64_t checked_multiply(uint64_t a, uint64_t b, const std::string& what);
uint64_t checked_add(uint64_t a, uint64_t b, const std::string& what);

}  // namespace tessera::cpu
