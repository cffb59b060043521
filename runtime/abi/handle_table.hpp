// Opaque handles: kind, generation and slot packed into a pointer-sized value that is never an
// address, so that a freed or wrong one is found out instead of followed. A salt of each loaded
// copy of the library keeps the copies' handles apart.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/error.hpp"

namespace tessera::abi {

enum class HandleKind : uint8_t { runtime = 1, model, context, chunk, session };

const char* handle_kind_name(HandleKind kind);

// Any thread.
class HandleTable {
 public:
  HandleTable();
  // This copy's table. Never destroyed: handles may be used until the very end.
  static HandleTable& instance();

  uint64_t insert(HandleKind kind, std::shared_ptr<void> object);
  // Throws invalid_argument for 0, a freed handle, one of another kind, or no handle at all.
  std::shared_ptr<void> find(HandleKind kind, uint64_t handle);
  // Takes the object out; null (not an error) for anything that `find` would refuse.
  std::shared_ptr<void> remove(HandleKind kind, uint64_t handle) noexcept;

 private:
  struct Slot {
    std::shared_ptr<void> object;
    HandleKind kind = HandleKind::runtime;
    uint32_t generation = 1;
  };
  Slot* slot_of(HandleKind kind, uint64_t packed) noexcept;

  const uint64_t salt_;
  std::mutex lock_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace tessera::abi
