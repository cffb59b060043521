// The one interface between the runtime and a device. A backend knows ops (graph.hpp), buffers and
// pages, never models, tokens' meaning or files.
//
// Numeric contract
//   1. The order in which an output is reduced over K does not depend on how many rows are computed
//      with it, nor on the number of threads.
//   2. Attention forms (max, sum, accumulator) partials over tiles of 64 slots counted from each
//      span's start and merges them in span order, in a grouping that depends on nothing but the
//      span (the CPU: tiles in pieces of 512 slots, then pieces). A slot that the mask hides or the
//      position test excludes contributes nothing; a tile without a visible slot leaves the state
//      untouched.
//   3. Pages start zeroed, so a slot never holds a NaN that nobody stored.
//   So on the CPU a row has the same bits alone or batched, with any thread count or prefill
//   slicing. Page size and span boundaries change rounding only.
//   4. GPUs are judged against the fp32 oracle: F16 paths mean KL <= 0.001 and max logit error 0.1,
//      int8-activation paths mean KL <= 0.004, and the same greedy token wherever the top-two gap
//      exceeds twice the largest error seen.
//   Reference mode: fp32 activations and accumulation, weights dequantised exactly, cos and sin
//   computed in float64.
//
// Errors: every call may throw tessera::Error (out_of_host_memory, out_of_device_memory,
// unsupported, device_lost, internal). After device_lost every call of the objects of that backend
// throws device_lost; destructors never throw.
// Lifetime: weights, page memories and programs are destroyed before their backend; a program
// before its weights and its page memory.
// Threads: a Backend may be called from any thread at any time. A Weight is immutable. A PageMemory
// and the programs over it are used by one thread at a time, PageMemory::host excepted; programs
// over different page memories run side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/dtype.hpp"
#include "backends/error.hpp"
#include "backends/graph.hpp"
#include "backends/step.hpp"

namespace tessera {

enum class DeviceKind : int32_t { cpu = 0, discrete_gpu = 1, integrated_gpu = 2, other = 3 };

struct DeviceInfo {
  std::string id;    // stable across runs on the same machine: "cpu", "cuda:0"
  std::string name;  // for people
  DeviceKind kind = DeviceKind::cpu;
  uint64_t memory_total = 0;  // bytes
  uint64_t memory_free = 0;   // bytes, now
  bool available = false;
  std::string reason;  // why it is not available; empty when it is
};

enum class MathMode : uint8_t { fast, reference };

// ---- Weights

enum WeightUse : uint32_t { kUseMatmul = 1, kUseGather = 2 };  // gather: rows are looked up by id

struct WeightDesc {
  std::string name;  // for messages
  DType type = DType::f32;
  uint32_t rows = 0;           // outputs
  uint32_t columns = 0;        // inputs; a multiple of the type's block
  uint32_t uses = kUseMatmul;  // WeightUse bits

  uint64_t bytes() const { return rows * row_bytes(type, columns); }
};

// Copies `bytes` bytes at `offset` of the row-major weight to `out`. A backend calls it with
// ascending ranges that cover the weight exactly once. Throws what reading throws.
using WeightReader = std::function<void(uint64_t offset, void* out, uint64_t bytes)>;

class Weight {
 public:
  explicit Weight(WeightDesc desc) : desc_(std::move(desc)) {}
  virtual ~Weight() = default;
  const WeightDesc& desc() const { return desc_; }
  virtual uint64_t device_bytes() const = 0;

 private:
  WeightDesc desc_;
};

// ---- KV pages

enum class KvType : uint8_t { f32, f16, q8_0 };

// Layers whose KV has one shape and one window. A page holds P tokens of all layers of one group.
struct LayerGroup {
  std::vector<uint32_t> layers;  // of the model, ascending
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t window = 0;  // 0: sees everything before it
};

struct KvLayout {
  KvType type = KvType::f16;
  uint32_t page_slots = 16;  // P: 8, 16, 32 or 64
  std::vector<LayerGroup> groups;
};

// The pages of one context: page_counts[g] pages of group g, numbered from 0, zeroed. How K and V
// lie inside a page is the backend's own; a page is contiguous and moves as one copy.
class PageMemory {
 public:
  virtual ~PageMemory() = default;
  // Where the page lies in this process: page_bytes bytes that any thread may use beside steps
  // which do not see the page. Null: only the calls below reach it.
  virtual uint8_t* host(uint32_t /*group*/, uint32_t /*page*/) noexcept { return nullptr; }
  // None of these runs while a step over these pages is under way.
  virtual void read(uint32_t group, uint32_t page, void* out) = 0;        // page_bytes bytes
  virtual void write(uint32_t group, uint32_t page, const void* in) = 0;  // page_bytes bytes
  virtual void copy(uint32_t group, uint32_t from, uint32_t to) = 0;
};

// ---- Programs

struct ProgramOptions {
  uint32_t max_rows = 0;  // most rows of a step
  uint32_t threads = 1;   // host threads a CPU may use; others ignore it
};

// A compiled graph. One step at a time: plan, submit, wait.
class Program {
 public:
  virtual ~Program() = default;
  // Checks and schedules the step on the host: sees all spans of the batch, keeps its own copy.
  virtual void plan(const Step& step) = 0;
  // Starts the planned step. Returns at once where the device computes by itself.
  virtual void submit() = 0;
  // Blocks until the step is done and fills `result`.
  virtual void wait(StepResult& result) = 0;

  // Whether `stop` has an effect.
  virtual bool stoppable() const { return false; }
  // Asks the step that is under way, or else the next, to end early. From any thread.
  virtual void stop() noexcept {}
};

struct BackendOptions {
  MathMode math = MathMode::fast;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const DeviceInfo& device() const = 0;
  // Reads the weight once, a part at a time, and keeps it in the device's own layout.
  virtual std::unique_ptr<Weight> load_weight(const WeightDesc& desc,
                                              const WeightReader& reader) = 0;
  // Bytes of one page of a group.
  virtual uint64_t page_bytes(const KvLayout& layout, uint32_t group) const = 0;
  // Names the layout inside a page; equal names mean that bytes may be exchanged.
  virtual std::string page_layout_name(const KvLayout& layout) const = 0;
  virtual std::unique_ptr<PageMemory> create_pages(const KvLayout& layout,
                                                   std::span<const uint32_t> page_counts) = 0;
  // Throws unsupported where the graph needs what the device lacks, and says what.
  virtual std::unique_ptr<Program> compile(const Graph& graph, PageMemory& pages,
                                           const ProgramOptions& options) = 0;
};

}  // namespace tessera
