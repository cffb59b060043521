// Answers to a prompt on a device: device_answer MODEL DEVICE. DEVICE "baseline" is the CPU with
// the kernels of that name, "cpu" the CPU as programs get it. Prints the device's name, then each
// session's tokens and the bits of its last logits.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string_view>

#include "backends/cpu/cpu.hpp"
#include "backends/registry.hpp"
#include "tests/quality/subjects.hpp"

namespace tessera::test {
namespace {

std::vector<DeviceInfo> enumerate() {
  DeviceInfo info;
  info.id = "baseline";
  info.kind = DeviceKind::other;
  info.available = true;
  return {info};
}

std::unique_ptr<Backend> open(std::string_view, const BackendOptions& options) {
  return cpu::open_with_isa("baseline", options);
}

void print_answers(const char* path, const char* device) {
  register_provider({"baseline", enumerate, open});
  model::LoadOptions load;
  load.device = device;
  const auto model = std::make_shared<const model::Model>(path, load);
  std::printf("%s\n", model->backend().device().name.c_str());
  const Material parts = material(*model, "tiny");
  engine::ContextOptions options;
  options.threads = 2;
  options.kv_budget = 8 << 20;
  EngineRig rig(model, options);
  const std::vector<std::vector<Piece>> sessions = {
      {{parts.question}}, {{parts.text}, {parts.chunk_a, true}, {parts.question}}};
  for (const EngineRig::Answer& answer : rig.answers(sessions, 16)) {
    for (const int32_t token : answer.tokens) std::printf("%d ", token);
    std::printf("\n");
    for (const float logit : answer.logits) std::printf("%08x ", std::bit_cast<uint32_t>(logit));
    std::printf("\n");
  }
}

}  // namespace
}  // namespace tessera::test

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL DEVICE\n", argv[0]);
    return 2;
  }
  try {
    tessera::test::print_answers(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
