#include "backends/registry.hpp"

#include <mutex>

#include "backends/providers.hpp"

namespace tessera {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<Provider> providers = {cuda_provider(), vulkan_provider(), cpu_provider()};
};

Registry& registry() {
  static Registry r;
  return r;
}

std::vector<Provider> providers() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  return r.providers;
}

// Lower is better.
int rank(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::discrete_gpu:
      return 0;
    case DeviceKind::integrated_gpu:
      return 1;
    case DeviceKind::cpu:
      return 2;
    case DeviceKind::other:
      break;
  }
  return 3;
}

}  // namespace

void register_provider(const Provider& provider) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  for (const Provider& known : r.providers) {
    if (std::string_view(known.name) == provider.name) return;
  }
  r.providers.push_back(provider);
}

std::vector<DeviceInfo> enumerate_devices() {
  std::vector<DeviceInfo> devices;
  for (const Provider& provider : providers()) {
    for (DeviceInfo& info : provider.enumerate()) devices.push_back(std::move(info));
  }
  return devices;
}

std::unique_ptr<Backend> open_device(std::string_view device_id, const BackendOptions& options) {
  std::string ids;
  const Provider* chosen = nullptr;
  DeviceInfo best;
  const std::vector<Provider> all = providers();
  for (const Provider& provider : all) {
    for (const DeviceInfo& info : provider.enumerate()) {
      if (!device_id.empty() && info.id == device_id) {
        if (!info.available) {
          fail(Status::unsupported, "device '" + info.id + "' is not available: " + info.reason);
        }
        return provider.open(info.id, options);
      }
      ids += (ids.empty() ? "" : ", ") + info.id;
      if (info.available && (!chosen || rank(info.kind) < rank(best.kind))) {
        chosen = &provider;
        best = info;
      }
    }
  }
  if (!device_id.empty()) {
    fail(Status::not_found,
         "device '" + std::string(device_id) + "' does not exist; there are " + ids);
  }
  if (!chosen) fail(Status::unsupported, "none of the devices is available: " + ids);
  return chosen->open(best.id, options);
}

}  // namespace tessera
