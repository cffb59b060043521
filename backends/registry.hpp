// Finds devices and opens them. The built-in providers are always there; a program that links the
// library statically (the tests) may add more.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.hpp"

namespace tessera {

struct Provider {
  const char* name;  // device ids are `name` or `name:index`
  std::vector<DeviceInfo> (*enumerate)();
  std::unique_ptr<Backend> (*open)(std::string_view device_id, const BackendOptions& options);
};

// Adds a provider for the rest of the program; a second one of the same name is ignored. Any
// thread.
void register_provider(const Provider& provider);

// All devices of all providers, the unavailable ones with their reason. Any thread.
std::vector<DeviceInfo> enumerate_devices();

// Opens a device. "" takes the best available one. Throws not_found (with the ids that exist),
// unsupported (with the device's reason).
std::unique_ptr<Backend> open_device(std::string_view device_id, const BackendOptions& options);

}  // namespace tessera
