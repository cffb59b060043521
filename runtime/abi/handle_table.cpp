#include "runtime/abi/handle_table.hpp"

#include <chrono>
#include <exception>
#include <random>

namespace tessera::abi {
namespace {

// kind: bits 56 to 63, generation: 32 to 55, slot + 1: 0 to 31.
constexpr int kKindShift = 56;
constexpr int kGenerationShift = 32;
constexpr uint32_t kMaxGeneration = (1u << 24) - 1;

uint64_t pack(HandleKind kind, uint32_t generation, uint32_t slot) {
  return uint64_t{static_cast<uint8_t>(kind)} << kKindShift |
         uint64_t{generation} << kGenerationShift | (uint64_t{slot} + 1);
}

// A number that another copy of the library is very unlikely to draw. Its top bit is set, which no
// packed handle has, so that no handle is 0, or an address.
uint64_t draw_salt() {
  uint64_t salt = 0;
  try {
    std::random_device random;
    salt = uint64_t{random()} << 32 | random();
  } catch (const std::exception&) {
    // Where this copy lies, and when.
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    salt = (reinterpret_cast<uintptr_t>(&draw_salt) ^ static_cast<uint64_t>(now)) *
           0x9e3779b97f4a7c15u;
  }
  return salt | uint64_t{1} << 63;
}

}  // namespace

static_assert(sizeof(void*) == 8, "handles need pointers of 64 bits");

const char* handle_kind_name(HandleKind kind) {
  switch (kind) {
    case HandleKind::runtime:
      return "runtime";
    case HandleKind::model:
      return "model";
    case HandleKind::context:
      return "context";
    case HandleKind::chunk:
      return "chunk";
    case HandleKind::session:
      return "session";
  }
  return "handle";
}

HandleTable::HandleTable() : salt_(draw_salt()) {}

HandleTable& HandleTable::instance() {
  static HandleTable& table = *new HandleTable;
  return table;
}

uint64_t HandleTable::insert(HandleKind kind, std::shared_ptr<void> object) {
  std::lock_guard guard(lock_);
  if (free_.empty()) {
    free_.reserve(slots_.size() + 1);  // so that remove never allocates
    slots_.emplace_back();
    free_.push_back(static_cast<uint32_t>(slots_.size() - 1));
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.object = std::move(object);
  slot.kind = kind;
  return pack(kind, slot.generation, index) ^ salt_;
}

HandleTable::Slot* HandleTable::slot_of(HandleKind kind, uint64_t packed) noexcept {
  const uint64_t index = (packed & UINT32_MAX) - 1;
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  const bool live = slot.object && slot.kind == kind &&
                    pack(kind, slot.generation, static_cast<uint32_t>(index)) == packed;
  return live ? &slot : nullptr;
}

std::shared_ptr<void> HandleTable::find(HandleKind kind, uint64_t handle) {
  std::string what = handle_kind_name(kind);
  if (handle == 0) fail(Status::invalid_argument, what + " is NULL");
  const uint64_t packed = handle ^ salt_;
  std::lock_guard guard(lock_);
  if (Slot* slot = slot_of(kind, packed)) return slot->object;
  const auto given = static_cast<HandleKind>(packed >> kKindShift);
  if (slot_of(given, packed)) {
    fail(Status::invalid_argument, what + " is the handle of a " + handle_kind_name(given));
  }
  fail(Status::invalid_argument, what +
                                     " is not a live handle: destroyed, never created, or of "
                                     "another copy of the library");
}

std::shared_ptr<void> HandleTable::remove(HandleKind kind, uint64_t handle) noexcept {
  const uint64_t packed = handle ^ salt_;
  std::lock_guard guard(lock_);
  Slot* slot = slot_of(kind, packed);
  if (!slot) return nullptr;
  std::shared_ptr<void> object = std::move(slot->object);
  slot->object = nullptr;
  // A slot whose generations are used up is retired.
  if (slot->generation < kMaxGeneration) {
    ++slot->generation;
    free_.push_back(static_cast<uint32_t>((packed & UINT32_MAX) - 1));
  }
  return object;
}

}  // namespace tessera::abi
