#include "tests/bench/quality/key_change.hpp"

#include <algorithm>
#include <cstring>

#include "backends/cpu/half.hpp"
#include "backends/dtype.hpp"
#include "tests/bench/quality/probe.hpp"

namespace tessera::quality {
namespace {

constexpr uint32_t kLayer = 1;  // of the model, from 0

// Keys of one layer of a page: [kv head][head_dim][slot], as floats.
std::vector<float> keys_of(const KvLayout& layout, const std::vector<uint8_t>& page) {
  const LayerGroup& group = layout.groups[0];
  const size_t plane = size_t{group.kv_heads} * group.head_dim * layout.page_slots;
  const size_t width = layout.type == KvType::f32 ? 4 : 2;
  const uint8_t* first = page.data() + kLayer * 2 * plane * width;  // K and V a layer
  std::vector<float> keys(plane);
  for (size_t i = 0; i < plane; ++i) {
    if (layout.type == KvType::f32) {
      std::memcpy(&keys[i], first + i * 4, 4);
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, first + i * 2, 2);
      keys[i] = cpu::half_to_float(bits);
    }
  }
  return keys;
}

struct Change {
  double distance;
  uint32_t position;
};

}  // namespace

std::vector<uint32_t> most_changed(engine::Context& context, const engine::SessionState& session,
                                   size_t count) {
  engine::ContextProbe probe(context);
  const KvLayout& layout = probe.layout();
  if (layout.type == KvType::q8_0 || layout.groups.size() != 1 ||
      layout.groups[0].layers.size() <= kLayer) {
    fail(Status::unsupported,
         "cacheblend compares the keys of layer 1 in F16 or F32 KV of one layer group");
  }
  const uint32_t slots = layout.page_slots;
  std::vector<Change> changes;
  for (const engine::Segment& s : session.segments) {
    if (s.kind != engine::SegmentKind::recomputed || s.length != s.canonical->size()) continue;
    for (uint32_t b = 0; b < s.span.blocks.size(); ++b) {
      const std::vector<float> own = keys_of(layout, probe.bytes(*s.span.blocks[b]));
      const std::vector<float> cached = keys_of(layout, probe.bytes(*s.canonical->blocks[b]));
      for (uint32_t slot = 0; slot < slots && b * slots + slot < s.length; ++slot) {
        double distance = 0;
        for (size_t i = slot; i < own.size(); i += slots) {
          distance += (double{own[i]} - cached[i]) * (double{own[i]} - cached[i]);
        }
        changes.push_back({distance, static_cast<uint32_t>(s.span.position(b * slots + slot))});
      }
    }
  }
  std::ranges::sort(changes, [](const Change& a, const Change& b) {
    return a.distance != b.distance ? a.distance > b.distance : a.position < b.position;
  });
  changes.resize(std::min(count, changes.size()));
  std::vector<uint32_t> positions;
  for (const Change& change : changes) positions.push_back(change.position);
  return positions;
}

}  // namespace tessera::quality
