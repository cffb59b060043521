// Stands in for a backend that this build does not have; compiled once for each (CMakeLists.txt):
// TESSERA_BACKEND_PROVIDER is the function it defines, TESSERA_BACKEND_ID the device's id,
// TESSERA_BACKEND_TITLE the name for people.
#include "backends/providers.hpp"

namespace tessera {
namespace {

constexpr const char* kReason = "this build has no " TESSERA_BACKEND_TITLE " backend";

std::vector<DeviceInfo> enumerate() {
  DeviceInfo info;
  info.id = TESSERA_BACKEND_ID;
  info.name = TESSERA_BACKEND_TITLE;
  info.kind = DeviceKind::discrete_gpu;
  info.reason = kReason;
  return {info};
}

std::unique_ptr<Backend> open(std::string_view device_id, const BackendOptions&) {
  fail(Status::unsupported, "device '" + std::string(device_id) + "': " + kReason);
}

}  // namespace

Provider TESSERA_BACKEND_PROVIDER() {
  return {TESSERA_BACKEND_ID, enumerate, open};
}

}  // namespace tessera
