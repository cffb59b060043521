#include "backends/cpu/attention_scores.hpp"

#include <bit>

namespace tessera::cpu {
namespace {

constexpr uint64_t low_bits(uint64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

}  // namespace

AttentionScores::AttentionScores(Value in, float scale, const AttentionShape& shape, Compiler& c)
    : kernels_(c.kernels),
      shape_((c.check_attention(shape, c.graph.widths[in]), shape)),
      scale_(scale),
      place_(c.pages.place(shape_.layer)),
      planes_(c.pages, place_, shape_.kv_heads, shape_.head_dim),
      type_(static_cast<size_t>(c.pages.layout().type)),
      window_(c.pages.layout().groups[place_.group].window),
      pairs_(static_cast<uint32_t>(c.graph.ropes[shape_.rope].frequencies.size())),
      halves_(c.graph.ropes[shape_.rope].pairing == RopePairing::halves),
      in_(c.values[in]),
      group_(shape_.heads / shape_.kv_heads),
      padded_((shape_.head_dim + kLanes - 1) / kLanes * kLanes) {
  RopeUse& use = c.rope_uses[shape_.rope];
  (shape_.key_form == KeyForm::local ? use.local : use.unrotated) = true;
  use.min_kv_heads = std::min(use.min_kv_heads, shape_.kv_heads);
  use.max_kv_heads = std::max(use.max_kv_heads, shape_.kv_heads);
}

size_t AttentionScores::item_floats() const {
  const size_t keys =
      shape_.key_form == KeyForm::unrotated ? size_t{kTileSlots} * shape_.head_dim : 0;
  return planes_.scratch_floats() + keys + size_t{max_queries()} * (padded_ + kTileSlots) +
         2 * size_t{kLanes};
}

AttentionScores::Item AttentionScores::empty_item(const Plan& plan, uint32_t rows, uint32_t kv_head,
                                                  float* memory) const {
  Item item = {.plan = plan, .kv_head = kv_head, .rows = rows};
  item.tile = memory;
  item.queries = item.tile + planes_.scratch_floats();
  if (shape_.key_form == KeyForm::unrotated) item.queries += size_t{kTileSlots} * shape_.head_dim;
  item.queries = aligned(item.queries);
  item.scores = item.queries + size_t{max_queries()} * padded_;
  std::fill_n(item.queries, size_t{rows} * group_ * padded_, 0.0f);
  std::fill_n(item.rotation, Plan::kMaxBlock, UINT32_MAX);
  return item;
}

AttentionScores::Item AttentionScores::item(const Plan& plan, std::span<const PieceReader> readers,
                                            uint32_t kv_head, float* memory) const {
  Item item = empty_item(plan, static_cast<uint32_t>(readers.size()), kv_head, memory);
  std::ranges::copy(readers, item.readers);
  return item;
}

AttentionScores::Item AttentionScores::item(const Plan& plan, RowBlock block, uint32_t kv_head,
                                            float* memory) const {
  Item item = empty_item(plan, block.rows, kv_head, memory);
  for (uint32_t r = 0; r < block.rows; ++r) item.readers[r].row = block.first + r;
  return item;
}

void AttentionScores::look(Item& item, uint32_t span) {
  for (uint32_t r = 0; r < item.rows; ++r) item.readers[r].span = span;
}

bool AttentionScores::see(Item& item, uint32_t first) const {
  const Step& step = item.plan.step();
  const uint32_t page_slots = item.plan.page_slots();
  uint64_t valid = 0, any = 0;
  for (uint32_t r = 0; r < item.rows; ++r) {
    const PieceReader& reader = item.readers[r];
    const SpanEntry& span = step.spans[reader.span];
    if (r == 0 || reader.span != item.readers[r - 1].span) {
      valid = 0;
      const uint32_t slots = std::min(kTileSlots, span.slots - first);
      for (uint32_t s = 0; s < slots; s += page_slots) {
        const uint64_t mask = step.masks[span.first_entry + (first + s) / page_slots];
        valid |= (mask & low_bits(page_slots)) << s;
      }
      valid &= low_bits(slots);
    }
    // Visible positions: low <= position <= high.
    const int64_t high = step.positions[reader.row];
    const int64_t low = window_ == 0 ? INT64_MIN : high - window_ + 1;
    uint64_t seen = 0;
    if (span.first_position == kNoPositions) {
      const int64_t start = int64_t{span.logical_start} + first;
      if (high >= start) seen = low_bits(static_cast<uint64_t>(high - start) + 1);
      if (low > start) seen &= ~low_bits(static_cast<uint64_t>(low - start));
    } else {
      for (uint64_t left = valid; left != 0; left &= left - 1) {
        const uint32_t slot = static_cast<uint32_t>(std::countr_zero(left));
        const int64_t position = item.plan.slot_position(span, first + slot);
        if (position >= low && position <= high) seen |= uint64_t{1} << slot;
      }
    }
    item.visible[r] = valid & seen;
    any |= item.visible[r];
  }
  return any != 0;
}

void AttentionScores::turn(Item& item) const {
  const Step& step = item.plan.step();
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  for (uint32_t r = 0; r < item.rows; ++r) {
    const PieceReader& reader = item.readers[r];
    const uint32_t first_span = step.sequences[step.sequence_of[reader.row]].first_span;
    turn_row(
        item, r,
        shape_.key_form == KeyForm::local
            ? rotations
                  .of_query_in_span[rotations.first_query[reader.row] + reader.span - first_span]
            : rotations.of_query[reader.row]);
  }
}

// Makes the queries of a row those of a rotation.
void AttentionScores::turn_row(Item& item, uint32_t row, uint32_t rotation) const {
  if (item.rotation[row] == rotation) return;
  item.rotation[row] = rotation;
  const float* angles = item.plan.rotations(shape_.rope).set[rotation];
  const float* q = in_.row(item.readers[row].row) + size_t{item.kv_head} * group_ * shape_.head_dim;
  for (uint32_t g = 0; g < group_; ++g, q += shape_.head_dim) {
    float* to = item.queries + (size_t{row} * group_ + g) * padded_;
    for (uint32_t d = 0; d < shape_.head_dim; ++d) to[d] = q[d] * scale_;
    kernels_.rotate(to, angles, angles + pairs_, pairs_, halves_);
  }
}

void AttentionScores::score(const Item& item, uint32_t first, uint32_t count, const KvTile& next,
                            uint32_t query, uint32_t queries) const {
  const SpanEntry& entry = span_of(item, query);
  ScoreArgs args = {item.queries + size_t{query} * padded_,
                    padded_,
                    queries,
                    shape_.head_dim,
                    planes_.tile(item.plan, entry, first, count, item.kv_head, false, item.tile),
                    item.scores + size_t{query} * kTileSlots,
                    next};
  if (shape_.key_form == KeyForm::local) return kernels_.score[type_](args);

  float* keys = item.tile + planes_.scratch_floats();
  kernels_.load_keys[type_](args.keys, shape_.head_dim, keys);
  const StepRotations& rotations = item.plan.rotations(shape_.rope);
  const uint32_t first_slot = rotations.first_slot[item.readers[query / group_].span] + first;
  for (uint32_t s = 0; s < count; ++s) {
    const float* angles = rotations.set[rotations.of_slot[first_slot + s]];
    for (uint32_t i = 0; i < pairs_; ++i) {
      const float c = angles[i], sine = angles[pairs_ + i];
      float& a = keys[size_t{halves_ ? i : 2 * i} * kTileSlots + s];
      float& b = keys[size_t{halves_ ? pairs_ + i : 2 * i + 1} * kTileSlots + s];
      const float turned = a * c - b * sine;
      b = a * sine + b * c;
      a = turned;
    }
  }
  for (uint32_t g = 0; g < args.keys.groups; ++g) {
    args.keys.planes[g] = reinterpret_cast<const uint8_t*>(keys);
    args.keys.first[g] = g * kGroupSlots;
  }
  args.keys.plane_slots = kTileSlots;
  kernels_.score[static_cast<size_t>(KvType::f32)](args);
}

}  // namespace tessera::cpu
