#include "tests/unit/engine/allocation_faults.hpp"

#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <new>

namespace tessera::test {

std::atomic<int64_t> g_before{-1};
std::atomic<int64_t> g_length{0};
std::atomic<int64_t> g_failed{0};
std::atomic<int64_t> g_count{0};
constinit thread_local int64_t g_before_here = -1;
std::atomic<int64_t> g_maps_before{-1};

namespace {

bool allocation_fails() {
  g_count.fetch_add(1, std::memory_order_relaxed);
  if (g_before_here >= 0 && g_before_here-- == 0) {
    ++g_failed;
    return true;
  }
  if (g_before.load(std::memory_order_relaxed) < 0) return false;
  const int64_t left = g_before.fetch_sub(1);
  if (left > 0) return false;
  if (left < 0) return false;  // another thread was quicker
  ++g_failed;
  if (--g_length > 0) g_before = 0;
  return true;
}

[[maybe_unused]] bool map_fails() {
  if (g_maps_before >= 0 && g_maps_before-- == 0) {
    ++g_failed;
    return true;
  }
  return allocation_fails();
}

void* allocate(std::size_t size) {
  if (allocation_fails()) throw std::bad_alloc();
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}

void* allocate(std::size_t size, std::align_val_t alignment) {
  if (allocation_fails()) throw std::bad_alloc();
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}

}  // namespace
}  // namespace tessera::test

using tessera::test::allocate;

#ifndef __SANITIZE_THREAD__  // kMapsFail
// The C library's own maps, of thread stacks and of malloc, do not come by here.
extern "C" void* mmap(void* at, std::size_t size, int access, int flags, int file,
                      off_t offset) noexcept {
  static const auto system = reinterpret_cast<decltype(&mmap)>(dlsym(RTLD_NEXT, "mmap"));
  if ((flags & MAP_ANONYMOUS) != 0 && tessera::test::map_fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return system(at, size, access, flags, file, offset);
}
#endif

void* operator new(std::size_t size) {
  return allocate(size);
}
void* operator new[](std::size_t size) {
  return allocate(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, alignment);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate(size, alignment);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
