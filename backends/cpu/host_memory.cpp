#include "backends/cpu/host_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "backends/error.hpp"

namespace tessera::cpu {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;

}  // namespace

HostMemory::HostMemory(uint64_t bytes, const std::string& what) : size_(bytes) {
  if (bytes == 0) return;
  // Aligned by taking more and giving the ends back.
  const uint64_t slack = bytes < kHugePage ? 0 : kHugePage;
  void* memory = bytes > SIZE_MAX - slack ? MAP_FAILED
                                          : mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail(Status::out_of_host_memory,
         what + ": the system has no " + std::to_string(bytes) + " bytes of memory");
  }
  data_ = static_cast<uint8_t*>(memory);
  if (slack == 0) return;
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t before = (kHugePage - reinterpret_cast<uintptr_t>(data_) % kHugePage) % kHugePage;
  const uint64_t end = (before + bytes + page - 1) / page * page;
  if (before > 0) munmap(data_, before);
  if (end < bytes + slack) munmap(data_ + end, bytes + slack - end);
  data_ += before;
#ifdef MADV_HUGEPAGE
  madvise(data_, bytes, MADV_HUGEPAGE);  // fewer misses of the TLB; a refusal does no harm
#endif
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
