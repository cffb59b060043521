#include "backends/cpu/host_memory.hpp"

#include <sys/mman.h>

#include <utility>

#include "backends/error.hpp"

namespace tessera::cpu {

HostMemory::HostMemory(uint64_t bytes, const std::string& what) : size_(bytes) {
  if (bytes == 0) return;
  void* memory = bytes > SIZE_MAX ? MAP_FAILED
                                  : mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail(Status::out_of_host_memory,
         what + ": the system has no " + std::to_string(bytes) + " bytes of memory");
  }
  data_ = static_cast<uint8_t*>(memory);
}

HostMemory::~HostMemory() {
  if (data_) munmap(data_, size_);
}

HostMemory::HostMemory(HostMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

uint64_t checked_multiply(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) {
    fail(Status::out_of_host_memory, what + ": its size does not fit 64 bits");
  }
  return product;
}

uint64_t checked_add(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) {
    fail(Status::out_of_host_memory, what + ": its size does not fit 64 bits");
  }
  return sum;
}

}  // namespace tessera::cpu
