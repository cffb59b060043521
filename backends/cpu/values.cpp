#include "backends/cpu/values.hpp"

#include <map>
#include <string>

#include "backends/cpu/kernels.hpp"
#include "backends/error.hpp"

namespace tessera::cpu {
namespace {

struct Uses {
  std::vector<Value> reads;
  std::vector<Value> writes;
};

struct UsesOf {
  Uses operator()(const Embed& op) const { return {{}, {op.out}}; }
  Uses operator()(const NormQkv& op) const { return {{op.in}, {op.out}}; }
  Uses operator()(const SpanAttention& op) const {
    if (op.log_sum == kNoValue) return {{op.in}, {op.out}};
    return {{op.in}, {op.out, op.log_sum}};
  }
  Uses operator()(const AttentionMass& op) const { return {{op.in, op.log_sum}, {}}; }
  Uses operator()(const LinearResidual& op) const { return {{op.in, op.residual}, {op.out}}; }
  Uses operator()(const NormGatedFfn& op) const { return {{op.in}, {op.out}}; }
  Uses operator()(const Logits& op) const { return {{op.in}, {}}; }
};

constexpr uint32_t kMaxWidth = 1 << 24;

}  // namespace

Values::Values(const Graph& graph, uint32_t max_rows) {
  // The last op that touches each value.
  std::vector<size_t> last(graph.widths.size(), 0);
  std::vector<Uses> uses;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    uses.push_back(std::visit(UsesOf{}, graph.ops[i]));
    for (const std::vector<Value>* list : {&uses[i].reads, &uses[i].writes}) {
      for (const Value v : *list) {
        if (v >= graph.widths.size()) {
          fail(Status::invalid_argument, "Graph::ops[" + std::to_string(i) + "] names value " +
                                             std::to_string(v) + "; Graph::widths has " +
                                             std::to_string(graph.widths.size()));
        }
        last[v] = i;
      }
    }
  }

  // Buffers are shared between values of one width only, so that nothing is ever written to the
  // padding. An output gets its buffer before the inputs of the same op give theirs back.
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> buffer_of(graph.widths.size(), kNone);
  std::vector<uint32_t> buffers;                 // widths
  std::multimap<uint32_t, size_t> free_buffers;  // by width
  for (size_t i = 0; i < uses.size(); ++i) {
    for (const Value v : uses[i].reads) {
      if (buffer_of[v] == kNone) {
        fail(Status::invalid_argument, "Graph::ops[" + std::to_string(i) + "] reads value " +
                                           std::to_string(v) + ", which no earlier op writes");
      }
    }
    for (const Value v : uses[i].writes) {
      if (buffer_of[v] != kNone) continue;
      const uint32_t width = graph.widths[v];
      if (width == 0 || width > kMaxWidth) {
        fail(Status::invalid_argument, "Graph::widths[" + std::to_string(v) + "] is " +
                                           std::to_string(width) + "; it must be 1 to " +
                                           std::to_string(kMaxWidth));
      }
      if (const auto it = free_buffers.find(width); it != free_buffers.end()) {
        buffer_of[v] = it->second;
        free_buffers.erase(it);
      } else {
        buffer_of[v] = buffers.size();
        buffers.push_back(width);
      }
    }
    for (Value v = 0; v < last.size(); ++v) {
      if (last[v] == i && buffer_of[v] != kNone) {
        free_buffers.emplace(graph.widths[v], buffer_of[v]);
      }
    }
  }

  std::vector<uint64_t> offsets;
  uint64_t floats = 0;
  for (const uint32_t width : buffers) {
    offsets.push_back(floats);
    const uint64_t stride = (width + kLanes - 1) / kLanes * kLanes;
    floats = checked_add(floats, checked_multiply(stride, max_rows, "activations"), "activations");
  }
  memory_ = HostMemory(checked_multiply(floats, sizeof(float), "activations"), "activations");
  for (Value v = 0; v < graph.widths.size(); ++v) {
    const uint32_t width = graph.widths[v];
    float* data = buffer_of[v] == kNone ? nullptr : memory_.floats() + offsets[buffer_of[v]];
    matrices_.push_back({data, (size_t{width} + kLanes - 1) / kLanes * kLanes, width});
  }
}

}  // namespace tessera::cpu
