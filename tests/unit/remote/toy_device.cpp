#include "tests/unit/remote/toy_device.hpp"

#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "backends/remote/wire_fields.hpp"

namespace tessera::remote::test {
namespace {

// FNV-1a.
uint64_t checksum(uint64_t sum, const Bytes& bytes) {
  for (const uint8_t byte : bytes) sum = (sum ^ byte) * 1099511628211u;
  return sum;
}

class ToyWeight final : public Weight {
 public:
  ToyWeight(WeightDesc desc, const WeightReader& reader) : Weight(std::move(desc)) {
    bytes.resize(this->desc().bytes());
    const size_t half = bytes.size() / 2;  // in two parts, the second one first
    reader(half, bytes.data() + half, bytes.size() - half);
    reader(0, bytes.data(), half);
  }
  uint64_t device_bytes() const override { return bytes.size(); }

  Bytes bytes;
};

uint64_t toy_page_bytes(const KvLayout& layout, uint32_t group) {
  const LayerGroup& of = layout.groups.at(group);
  return uint64_t{8} * layout.page_slots * of.layers.size() * of.kv_heads * of.head_dim;
}

class ToyPages final : public PageMemory {
 public:
  ToyPages(const KvLayout& layout, std::span<const uint32_t> counts) {
    for (uint32_t g = 0; g < counts.size(); ++g) {
      groups.emplace_back(counts[g], Bytes(toy_page_bytes(layout, g)));
    }
  }
  void read(uint32_t group, uint32_t page, void* out) override {
    std::memcpy(out, groups[group][page].data(), groups[group][page].size());
  }
  void write(uint32_t group, uint32_t page, const void* in) override {
    std::memcpy(groups[group][page].data(), in, groups[group][page].size());
  }
  void copy(uint32_t group, uint32_t from, uint32_t to) override {
    groups[group][to] = groups[group][from];
  }

  std::vector<std::vector<Bytes>> groups;
};

class ToyProgram final : public Program {
 public:
  ToyProgram(const Graph& graph, ToyPages& pages, const ProgramOptions& options,
             std::shared_ptr<ToyFaults> faults)
      : pages_(pages), faults_(std::move(faults)) {
    const auto add_weight = [this](const Weight* weight) {
      graph_sum_ = checksum(graph_sum_, static_cast<const ToyWeight&>(*weight).bytes);
      return uint64_t{0};
    };
    const Bytes bytes = encode(graph, add_weight);
    graph_sum_ = checksum(checksum(graph_sum_, bytes), encode(options));
  }
  void plan(const Step& step) override {
    if (step.logits.empty()) fail(Status::invalid_argument, "step.logits: empty; ask for a row");
    step_sum_ = checksum(graph_sum_, encode(step));
    results_ = step.logits.size();
  }
  void submit() override {}
  // The checksum of graph, step and pages; adds it to the first page, as a step stores its keys.
  void wait(StepResult& result) override {
    if (faults_->breaks) throw std::runtime_error("toy: broken");
    uint64_t sum = step_sum_;
    for (const auto& group : pages_.groups) {
      for (const Bytes& page : group) sum = checksum(sum, page);
    }
    std::memcpy(pages_.groups[0][0].data(), &sum, sizeof sum);
    result.logits.assign(results_, {});
    for (LogitsResult& one : result.logits) one.top = {{static_cast<int32_t>(sum >> 40), 1.0f}};
  }

 private:
  ToyPages& pages_;
  std::shared_ptr<ToyFaults> faults_;
  uint64_t graph_sum_ = 14695981039346656037u;
  uint64_t step_sum_ = 0;
  size_t results_ = 0;
};

class ToyBackend final : public Backend {
 public:
  ToyBackend(const BackendOptions& options, std::shared_ptr<ToyFaults> faults)
      : faults_(std::move(faults)) {
    info_.id = "toy";
    info_.name = options.math == MathMode::reference ? "reference toy" : "fast toy";
    info_.available = true;
  }
  const DeviceInfo& device() const override { return info_; }
  std::unique_ptr<Weight> load_weight(const WeightDesc& desc, const WeightReader& reader) override {
    return std::make_unique<ToyWeight>(desc, reader);
  }
  uint64_t page_bytes(const KvLayout& layout, uint32_t group) const override {
    return toy_page_bytes(layout, group);
  }
  std::string page_layout_name(const KvLayout&) const override { return "toy pages"; }
  std::unique_ptr<PageMemory> create_pages(const KvLayout& layout,
                                           std::span<const uint32_t> page_counts) override {
    if (faults_->no_memory) throw std::bad_alloc();
    return std::make_unique<ToyPages>(layout, page_counts);
  }
  std::unique_ptr<Program> compile(const Graph& graph, PageMemory& pages,
                                   const ProgramOptions& options) override {
    if (faults_->no_host_memory) fail(Status::out_of_host_memory, "toy: no memory");
    return std::make_unique<ToyProgram>(graph, static_cast<ToyPages&>(pages), options, faults_);
  }

 private:
  DeviceInfo info_;
  std::shared_ptr<ToyFaults> faults_;
};

}  // namespace

std::unique_ptr<Backend> make_toy_device(const BackendOptions& options,
                                         std::shared_ptr<ToyFaults> faults) {
  return std::make_unique<ToyBackend>(options, std::move(faults));
}

}  // namespace tessera::remote::test
