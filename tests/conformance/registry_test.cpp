// Devices: those that exist, those that do not and why.
#include "backends/registry.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace tessera {
namespace {

DeviceInfo find(const std::string& id) {
  for (const DeviceInfo& info : enumerate_devices()) {
    if (info.id == id) return info;
  }
  ADD_FAILURE() << "no device " << id;
  return {};
}

template <class Act>
Error error_of(Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Status::ok, "");
}

TEST(Registry, TheCpuIsThere) {
  const DeviceInfo cpu = find("cpu");
  EXPECT_TRUE(cpu.available);
  EXPECT_EQ(cpu.reason, "");
  EXPECT_EQ(cpu.kind, DeviceKind::cpu);
  EXPECT_FALSE(cpu.name.empty());
  EXPECT_GT(cpu.memory_total, 0u);
  EXPECT_LE(cpu.memory_free, cpu.memory_total);
  const auto backend = open_device("cpu", {});
  EXPECT_EQ(backend->device().id, "cpu");
}

TEST(Registry, TheBestDeviceIsAvailable) {
  EXPECT_TRUE(find(open_device("", {})->device().id).available);
}

TEST(Registry, UnavailableDevicesSayWhy) {
  for (const DeviceInfo& info : enumerate_devices()) {
    EXPECT_EQ(info.available, info.reason.empty()) << info.id;
    if (info.available) continue;
    const Error error = error_of([&] { open_device(info.id, {}); });
    EXPECT_EQ(error.status(), Status::unsupported);
    EXPECT_NE(std::string(error.what()).find(info.reason), std::string::npos) << error.what();
  }
}

TEST(Registry, AnUnknownDeviceGetsTheList) {
  const Error error = error_of([] { open_device("abacus:1", {}); });
  EXPECT_EQ(error.status(), Status::not_found);
  EXPECT_NE(std::string(error.what()).find("abacus:1"), std::string::npos);
  EXPECT_NE(std::string(error.what()).find("cpu"), std::string::npos);
}

std::vector<DeviceInfo> two() {
  DeviceInfo a;
  a.id = "toy:0";
  a.kind = DeviceKind::other;
  a.available = true;
  DeviceInfo b = a;
  b.id = "toy:1";
  return {a, b};
}

std::string opened;

std::unique_ptr<Backend> open_toy(std::string_view id, const BackendOptions& options) {
  opened = id;
  return open_device("cpu", options);
}

TEST(Registry, ProvidersMayBeAdded) {
  const size_t before = enumerate_devices().size();
  register_provider({"toy", two, open_toy});
  register_provider({"toy", two, open_toy});
  EXPECT_EQ(enumerate_devices().size(), before + 2);
  open_device("toy:1", {});
  EXPECT_EQ(opened, "toy:1");
  // A device of kind `other` never is the best.
  opened.clear();
  open_device("", {});
  EXPECT_EQ(opened, "");
}

}  // namespace
}  // namespace tessera
