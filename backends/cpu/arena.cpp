#include "backends/cpu/arena.hpp"

#include <algorithm>
#include <utility>

namespace tessera::cpu {
namespace {

constexpr uint64_t kRegion = uint64_t{32} << 20;  // what is not touched of it costs nothing
constexpr uint64_t kAlignment = 64;

}  // namespace

Arena::Slice Arena::allocate(uint64_t bytes, const std::string& what) {
  const uint64_t aligned = checked_add(bytes, kAlignment - 1, what) / kAlignment * kAlignment;
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const HostMemory> region = region_.lock();
  if (!region || region->size() - used_ < aligned) {
    region = std::make_shared<const HostMemory>(std::max(aligned, kRegion), what);
    region_ = region;
    used_ = 0;
  }
  uint8_t* data = region->data() + used_;
  used_ += aligned;
  return {std::move(region), data, bytes};
}

}  // namespace tessera::cpu
