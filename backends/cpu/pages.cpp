#include "backends/cpu/pages.hpp"

#include <algorithm>
#include <cstring>

namespace tessera::cpu {
namespace {

const char* type_name(KvType type) {
  switch (type) {
    case KvType::f32:
      return "f32";
    case KvType::f16:
      return "f16";
    case KvType::q8_0:
      return "q8_0";
  }
  return nullptr;
}

std::string group_text(uint32_t group) {
  return "KvLayout::groups[" + std::to_string(group) + "]";
}

void check(const KvLayout& layout, uint32_t group) {
  if (!type_name(layout.type)) fail(Status::invalid_argument, "KvLayout::type is unknown");
  const uint32_t p = layout.page_slots;
  if (p != 8 && p != 16 && p != 32 && p != 64) {
    fail(Status::invalid_argument,
         "KvLayout::page_slots is " + std::to_string(p) + "; it must be 8, 16, 32 or 64");
  }
  if (group >= layout.groups.size()) {
    fail(Status::invalid_argument, group_text(group) + " does not exist; the layout has " +
                                       std::to_string(layout.groups.size()) + " groups");
  }
  const LayerGroup& g = layout.groups[group];
  if (g.layers.empty() || g.kv_heads == 0 || g.head_dim == 0) {
    fail(Status::invalid_argument,
         group_text(group) + ": layers, kv_heads and head_dim must not be empty");
  }
  if (layout.type == KvType::q8_0 && g.head_dim % 32 != 0) {
    fail(Status::unsupported, group_text(group) +
                                  ": Q8_0 pages need a head_dim that is a multiple "
                                  "of 32, not " +
                                  std::to_string(g.head_dim));
  }
}

// The layers in the order of their bytes, runs as first-last: "0-3,8".
std::string layers_text(const std::vector<uint32_t>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += std::to_string(layers[i]);
    if (end - i > 1) text.append("-").append(std::to_string(layers[end - 1]));
    i = end;
  }
  return text;
}

}  // namespace

uint64_t head_bytes(KvType type, uint32_t head_dim) {
  switch (type) {
    case KvType::f32:
      return uint64_t{head_dim} * 4;
    case KvType::f16:
      return uint64_t{head_dim} * 2;
    case KvType::q8_0:
      return uint64_t{head_dim} / 32 * 34;
  }
  return 0;
}

uint64_t page_bytes(const KvLayout& layout, uint32_t group) {
  check(layout, group);
  const LayerGroup& g = layout.groups[group];
  const std::string what = "a page of " + group_text(group);
  uint64_t bytes = checked_multiply(head_bytes(layout.type, g.head_dim), layout.page_slots, what);
  bytes = checked_multiply(bytes, g.kv_heads, what);
  return checked_multiply(bytes, 2 * g.layers.size(), what);
}

std::string page_layout_name(const KvLayout& layout) {
  std::string name = "layer-kv-head-kT-v/";
  for (uint32_t i = 0; i < layout.groups.size(); ++i) {
    check(layout, i);
    const LayerGroup& g = layout.groups[i];
    if (i == 0) {
      name += std::string(type_name(layout.type)) + "/p" + std::to_string(layout.page_slots);
    }
    name.append("/").append(layers_text(g.layers));
    name.append("x").append(std::to_string(g.kv_heads));
    name.append("x").append(std::to_string(g.head_dim));
  }
  return name;
}

CpuPages::CpuPages(const KvLayout& layout, std::span<const uint32_t> page_counts)
    : layout_(layout), page_counts_(page_counts.begin(), page_counts.end()) {
  if (page_counts.size() != layout.groups.size()) {
    fail(Status::invalid_argument, "page_counts has " + std::to_string(page_counts.size()) +
                                       " entries; KvLayout::groups has " +
                                       std::to_string(layout.groups.size()));
  }
  for (uint32_t g = 0; g < page_counts.size(); ++g) {
    const std::string what = "KV pages of group " + std::to_string(g);
    const uint64_t bytes = cpu::page_bytes(layout, g);
    groups_.push_back({HostMemory(checked_multiply(bytes, page_counts[g], what), what), bytes});
  }
}

CpuPages::LayerPlace CpuPages::place(uint32_t layer) const {
  for (uint32_t g = 0; g < layout_.groups.size(); ++g) {
    const std::vector<uint32_t>& layers = layout_.groups[g].layers;
    const auto it = std::find(layers.begin(), layers.end(), layer);
    if (it != layers.end()) {
      const uint64_t layer_bytes = groups_[g].page_bytes / layers.size();
      return {g, layer_bytes * static_cast<uint64_t>(it - layers.begin())};
    }
  }
  fail(Status::invalid_argument,
       "AttentionShape::layer " + std::to_string(layer) + " is in no group of KvLayout");
}

uint8_t* CpuPages::checked_page(uint32_t group, uint32_t index) const {
  if (group >= groups_.size() || index >= page_counts_[group]) {
    fail(Status::invalid_argument, "page " + std::to_string(index) + " of group " +
                                       std::to_string(group) + " does not exist");
  }
  return page(group, index);
}

void CpuPages::read(uint32_t group, uint32_t index, void* out) {
  const uint8_t* from = checked_page(group, index);
  std::memcpy(out, from, groups_[group].page_bytes);
}

void CpuPages::write(uint32_t group, uint32_t index, const void* in) {
  uint8_t* to = checked_page(group, index);
  std::memcpy(to, in, groups_[group].page_bytes);
}

void CpuPages::copy(uint32_t group, uint32_t from, uint32_t to) {
  std::memmove(checked_page(group, to), checked_page(group, from), groups_[group].page_bytes);
}

}  // namespace tessera::cpu
