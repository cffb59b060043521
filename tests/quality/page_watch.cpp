#include "tests/quality/page_watch.hpp"

#include <algorithm>
#include <memory>

#include "backends/registry.hpp"

namespace tessera::test {
namespace {

struct Watched {
  PageMemory* memory = nullptr;
  std::vector<uint32_t> page_counts;
  std::vector<uint64_t> page_bytes;
};

Watched& watched() {
  static Watched w;
  return w;
}

// Hands out the CPU's own objects; only remembers the pages.
class WatchedBackend final : public Backend {
 public:
  explicit WatchedBackend(const BackendOptions& options) : cpu_(open_device("cpu", options)) {}

  const DeviceInfo& device() const override { return cpu_->device(); }
  std::unique_ptr<Weight> load_weight(const WeightDesc& desc, const WeightReader& reader) override {
    return cpu_->load_weight(desc, reader);
  }
  uint64_t page_bytes(const KvLayout& layout, uint32_t group) const override {
    return cpu_->page_bytes(layout, group);
  }
  std::string page_layout_name(const KvLayout& layout) const override {
    return cpu_->page_layout_name(layout);
  }
  std::unique_ptr<PageMemory> create_pages(const KvLayout& layout,
                                           std::span<const uint32_t> page_counts) override {
    auto memory = cpu_->create_pages(layout, page_counts);
    watched().memory = memory.get();
    watched().page_counts.assign(page_counts.begin(), page_counts.end());
    watched().page_bytes.clear();
    for (uint32_t g = 0; g < page_counts.size(); ++g) {
      watched().page_bytes.push_back(cpu_->page_bytes(layout, g));
    }
    return memory;
  }
  std::unique_ptr<Program> compile(const Graph& graph, PageMemory& pages,
                                   const ProgramOptions& options) override {
    return cpu_->compile(graph, pages, options);
  }

 private:
  std::unique_ptr<Backend> cpu_;
};

std::vector<DeviceInfo> enumerate() {
  DeviceInfo info;
  info.id = "watched";
  info.name = "CPU whose pages are watched";
  info.kind = DeviceKind::other;
  info.available = true;
  return {info};
}

std::unique_ptr<Backend> open(std::string_view, const BackendOptions& options) {
  return std::make_unique<WatchedBackend>(options);
}

}  // namespace

void register_watched_device() {
  register_provider({"watched", enumerate, open});
}

PageContents read_watched_pages() {
  PageContents contents;
  for (uint32_t g = 0; g < watched().page_counts.size(); ++g) {
    for (uint32_t page = 0; page < watched().page_counts[g]; ++page) {
      std::vector<uint8_t> bytes(watched().page_bytes[g]);
      watched().memory->read(g, page, bytes.data());
      if (std::ranges::any_of(bytes, [](uint8_t byte) { return byte != 0; })) {
        contents.emplace(std::pair(g, page), std::move(bytes));
      }
    }
  }
  return contents;
}

}  // namespace tessera::test
