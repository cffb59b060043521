// The suite on the CPU: as it is opened by default, and with the kernels of every instruction set
// that this machine runs.
#include "backends/cpu/cpu.hpp"
#include "backends/cpu/isa.hpp"
#include "backends/registry.hpp"
#include "tests/conformance/devices.hpp"

namespace tessera {
namespace {

// The CPU with variant `index` as a device "cpu-NAME".
template <size_t index>
std::string variant_id() {
  return std::string("cpu-") + cpu::isas()[index].name;
}

template <size_t index>
std::vector<DeviceInfo> enumerate_variant() {
  DeviceInfo info;
  info.id = variant_id<index>();
  info.name = info.id;
  info.kind = DeviceKind::other;
  info.available = cpu::isas()[index].supported();
  info.reason = info.available ? "" : "the processor or the operating system lacks it";
  return {info};
}

template <size_t index>
std::unique_ptr<Backend> open_variant(std::string_view, const BackendOptions& options) {
  return cpu::open_with_isa(cpu::isas()[index].name, options);
}

template <size_t index>
void add_variant(std::vector<test::ConformanceDevice>& devices) {
  if (index >= cpu::isas().size() || !cpu::isas()[index].supported()) return;
  static const std::string id = variant_id<index>();
  register_provider({id.c_str(), enumerate_variant<index>, open_variant<index>});
  devices.push_back({id});
  devices.push_back({.id = id, .math = MathMode::fast, .int8_error = 0.02, .int16_error = 6e-4});
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  std::vector<tessera::test::ConformanceDevice> devices;
  tessera::add_variant<0>(devices);
  tessera::add_variant<1>(devices);
  tessera::add_variant<2>(devices);
  tessera::add_variant<3>(devices);
  tessera::add_variant<4>(devices);
  return tessera::test::run_conformance(argc, argv, devices);
}
