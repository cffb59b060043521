// Versions, runtime and devices.
#include "backends/registry.hpp"
#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/status.hpp"
#include "runtime/abi/structs.hpp"

using namespace tessera;
using namespace tessera::abi;

uint32_t tsr_abi_version(void) {
  return TSR_ABI_VERSION;
}

const char* tsr_version(void) {
  return TESSERA_VERSION;
}

tsr_status tsr_runtime_create(const tsr_runtime_options* options, tsr_runtime* out) {
  return guarded([&] {
    require(out, "out");
    const auto o = read_struct(options, version_1<tsr_runtime_options>, "options");
    if (o.log_level < 0 || o.log_level > TSR_LOG_INFO) {
      invalid("options->log_level is " + std::to_string(o.log_level) + ", must be a TSR_LOG value");
    }
    auto runtime = std::make_shared<Runtime>();
    runtime->callback = o.log;
    runtime->user_data = o.log_user_data;
    runtime->level = o.log_level ? o.log_level : TSR_LOG_WARNING;
    *out = publish<tsr_runtime>(std::move(runtime));
  });
}

void tsr_runtime_destroy(tsr_runtime runtime) {
  clear_message();
  remove<Runtime>(runtime);
}

tsr_status tsr_device_count(tsr_runtime runtime, uint32_t* count) {
  return guarded([&] {
    find<Runtime>(runtime);
    require(count, "count");
    *count = static_cast<uint32_t>(enumerate_devices().size());
  });
}

tsr_status tsr_device_get(tsr_runtime runtime, uint32_t index, tsr_device_info* info) {
  return guarded([&] {
    find<Runtime>(runtime);
    const std::vector<DeviceInfo> devices = enumerate_devices();
    if (index >= devices.size()) {
      invalid("index is " + std::to_string(index) + ", must be less than " +
              std::to_string(devices.size()));
    }
    const DeviceInfo& device = devices[index];
    tsr_device_info value{};
    value.kind = static_cast<tsr_device_kind>(device.kind);
    value.available = device.available ? 1 : 0;
    value.memory_total = device.memory_total;
    value.memory_free = device.memory_free;
    copy_text(device.id, value.id);
    copy_text(device.name, value.name);
    copy_text(device.reason, value.reason);
    write_struct(info, value, version_1<tsr_device_info>, "info");
  });
}
