#include "backends/cpu/op.hpp"

#include <cmath>

namespace tessera::cpu {

Compiler::Compiler(const Graph& g, const Values& v, CpuPages& p, const Kernels& k,
                   const ProgramOptions& o)
    : graph(g), pages(p), kernels(k), options(o), values(v) {
  rope_uses.resize(g.ropes.size());
}

void Compiler::begin(size_t index, const char* op) {
  op_ = "Graph::ops[" + std::to_string(index) + "] (" + op + ")";
}

void Compiler::fail_at(const std::string& field, const std::string& why) const {
  fail(Status::invalid_argument, op_ + "." + field + ": " + why);
}

const CpuWeight& Compiler::weight(const Weight* weight, const char* field, uint32_t rows,
                                  uint32_t columns) const {
  if (!weight) fail_at(field, "has no weight");
  const CpuWeight* w = dynamic_cast<const CpuWeight*>(weight);
  if (!w) fail_at(field, "'" + weight->desc().name + "' was not loaded by the CPU backend");
  const WeightDesc& desc = w->desc();
  if (desc.rows != rows || desc.columns != columns) {
    fail_at(field, "'" + desc.name + "' is [" + std::to_string(desc.rows) + "][" +
                       std::to_string(desc.columns) + "]; it must be [" + std::to_string(rows) +
                       "][" + std::to_string(columns) + "]");
  }
  return *w;
}

std::vector<float> Compiler::vector(const Weight* w, const char* field, uint32_t width) const {
  const CpuWeight& source = weight(w, field, 1, width);
  std::vector<float> values((size_t{width} + kLanes - 1) / kLanes * kLanes, 0.0f);
  source.dequantise_row(kernels, 0, values.data());
  return values;
}

void Compiler::check_attention(const AttentionShape& shape, uint32_t width) const {
  if (shape.heads == 0 || shape.kv_heads == 0 || shape.head_dim == 0 ||
      shape.heads % shape.kv_heads != 0) {
    fail_at("shape", std::to_string(shape.heads) + " heads, " + std::to_string(shape.kv_heads) +
                         " KV heads, head_dim " + std::to_string(shape.head_dim) +
                         "; heads must be a multiple of KV heads and nothing 0");
  }
  if (uint64_t{shape.heads} * shape.head_dim != width) {
    fail_at("shape", "heads * head_dim is " +
                         std::to_string(uint64_t{shape.heads} * shape.head_dim) +
                         "; the value's width is " + std::to_string(width));
  }
  const LayerGroup& group = pages.layout().groups[pages.place(shape.layer).group];
  if (group.kv_heads != shape.kv_heads || group.head_dim != shape.head_dim) {
    fail_at("shape", "layer " + std::to_string(shape.layer) + " has " +
                         std::to_string(shape.kv_heads) + " KV heads of " +
                         std::to_string(shape.head_dim) + "; its pages hold " +
                         std::to_string(group.kv_heads) + " of " + std::to_string(group.head_dim));
  }
  if (shape.rope >= graph.ropes.size()) {
    fail_at("shape.rope", std::to_string(shape.rope) + " is not in Graph::ropes, which has " +
                              std::to_string(graph.ropes.size()));
  }
  const Rope& rope = graph.ropes[shape.rope];
  if (rope.frequencies.size() * 2 > shape.head_dim) {
    fail_at("shape.rope", std::to_string(rope.frequencies.size()) +
                              " frequencies rotate more than a head_dim of " +
                              std::to_string(shape.head_dim));
  }
}

void Compiler::check_width(Value value, const char* field, uint32_t width) const {
  if (graph.widths[value] != width) {
    fail_at(field, "value " + std::to_string(value) + " has width " +
                       std::to_string(graph.widths[value]) + "; it must be " +
                       std::to_string(width));
  }
}

void Compiler::check_positive(float value, const char* field) const {
  if (!(value > 0) || !std::isfinite(value)) {
    fail_at(field, "is " + std::to_string(value) + "; it must be positive and finite");
  }
}

}  // namespace tessera::cpu
