#include "runtime/abi/handle_table.hpp"

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
  return pack(kind, slot.generation, index);
}

HandleTable::Slot* HandleTable::slot_of(HandleKind kind, uint64_t handle) noexcept {
  const uint64_t index = (handle & UINT32_MAX) - 1;
  if (handle == 0 || index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  const bool live = slot.object && slot.kind == kind &&
                    pack(kind, slot.generation, static_cast<uint32_t>(index)) == handle;
  return live ? &slot : nullptr;
}

std::shared_ptr<void> HandleTable::find(HandleKind kind, uint64_t handle) {
  std::string what = handle_kind_name(kind);
  if (handle == 0) fail(Status::invalid_argument, what + " is NULL");
  std::lock_guard guard(lock_);
  if (Slot* slot = slot_of(kind, handle)) return slot->object;
  const auto given = static_cast<HandleKind>(handle >> kKindShift);
  if (given != kind && given >= HandleKind::runtime && given <= HandleKind::session) {
    fail(Status::invalid_argument, what + " is the handle of a " + handle_kind_name(given));
  }
  fail(Status::invalid_argument, what + " is not a live handle: destroyed, or never created");
}

std::shared_ptr<void> HandleTable::remove(HandleKind kind, uint64_t handle) noexcept {
  std::lock_guard guard(lock_);
  Slot* slot = slot_of(kind, handle);
  if (!slot) return nullptr;
  std::shared_ptr<void> object = std::move(slot->object);
  slot->object = nullptr;
  // A slot whose generations are used up is retired.
  if (slot->generation < kMaxGeneration) {
    ++slot->generation;
    free_.push_back(static_cast<uint32_t>((handle & UINT32_MAX) - 1));
  }
  return object;
}

}  // namespace tessera::abi
