// The CPU as a device, and the backend's front door.
#include <unistd.h>

#include <fstream>
#include <string>

#include "backends/cpu/arena.hpp"
#include "backends/cpu/cpu.hpp"
#include "backends/cpu/isa.hpp"
#include "backends/cpu/pages.hpp"
#include "backends/cpu/program.hpp"
#include "backends/cpu/weight.hpp"
#include "backends/providers.hpp"

namespace tessera::cpu {
namespace {

// The text behind `key` and its colon on the first line of `path` that starts with it.
std::string find_line(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t text = line.find_first_not_of(" \t", colon + 1);
    return text == std::string::npos ? "" : line.substr(text);
  }
  return "";
}

// A line of /proc/meminfo in bytes; 0 where there is none.
uint64_t meminfo(const std::string& key) {
  uint64_t kib = 0;
  for (const char c : find_line("/proc/meminfo", key)) {
    if (c < '0' || c > '9') break;
    kib = kib * 10 + static_cast<uint64_t>(c - '0');
  }
  return kib * 1024;
}

DeviceInfo describe(const Kernels& kernels) {
  DeviceInfo info;
  info.id = "cpu";
  const std::string model = find_line("/proc/cpuinfo", "model name");
  info.name = (model.empty() ? "CPU" : model) + " (" + kernels.name + ")";
  info.kind = DeviceKind::cpu;
  info.memory_total = meminfo("MemTotal");
  info.memory_free = meminfo("MemAvailable");
  if (info.memory_total == 0) {
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) {
      info.memory_total = static_cast<uint64_t>(pages) * static_cast<uint64_t>(size);
    }
  }
  info.available = true;
  return info;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, const BackendOptions& options)
      : kernels_(kernels), math_(options.math), device_(describe(kernels)) {}

  const DeviceInfo& device() const override { return device_; }

  std::unique_ptr<Weight> load_weight(const WeightDesc& desc, const WeightReader& reader) override {
    return std::make_unique<CpuWeight>(desc, reader, math_, arena_);
  }

  uint64_t page_bytes(const KvLayout& layout, uint32_t group) const override {
    return cpu::page_bytes(layout, group);
  }

  std::string page_layout_name(const KvLayout& layout) const override {
    return cpu::page_layout_name(layout);
  }

  std::unique_ptr<PageMemory> create_pages(const KvLayout& layout,
                                           std::span<const uint32_t> page_counts) override {
    return std::make_unique<CpuPages>(layout, page_counts);
  }

  std::unique_ptr<Program> compile(const Graph& graph, PageMemory& pages,
                                   const ProgramOptions& options) override {
    CpuPages* cpu_pages = dynamic_cast<CpuPages*>(&pages);
    if (!cpu_pages) {
      fail(Status::invalid_argument, "compile: the pages were not created by the CPU backend");
    }
    return std::make_unique<CpuProgram>(graph, *cpu_pages, kernels_, options);
  }

 private:
  const Kernels& kernels_;
  const MathMode math_;
  Arena arena_;
  const DeviceInfo device_;
};

std::vector<DeviceInfo> enumerate() {
  return {describe(best_kernels())};
}

std::unique_ptr<Backend> open(std::string_view, const BackendOptions& options) {
  return std::make_unique<CpuBackend>(best_kernels(), options);
}

}  // namespace

std::unique_ptr<Backend> open_with_isa(std::string_view isa, const BackendOptions& options) {
  return std::make_unique<CpuBackend>(kernels_named(isa), options);
}

}  // namespace tessera::cpu

namespace tessera {

Provider cpu_provider() {
  return {"cpu", cpu::enumerate, cpu::open};
}

}  // namespace tessera
