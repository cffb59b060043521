#include "runtime/engine/step_builder.hpp"

namespace tessera::engine {

StepBuilder::StepBuilder(uint32_t page_slots, uint32_t layer_groups) : page_slots_(page_slots) {
  step_.page_tables.resize(layer_groups);
}

StepBuilder::Mark StepBuilder::mark() const noexcept {
  return {step_.tokens.size(),      step_.sequences.size(),      step_.spans.size(),
          step_.masks.size(),       step_.slot_positions.size(), step_.logits.size(),
          step_.adjustments.size(), step_.mass_requests.size()};
}

void StepBuilder::rewind(const Mark& mark) noexcept {
  step_.tokens.resize(mark.rows);
  step_.positions.resize(mark.rows);
  step_.key_positions.resize(mark.rows);
  step_.sequence_of.resize(mark.rows);
  step_.store_entries.resize(mark.rows);
  step_.store_slots.resize(mark.rows);
  step_.sequences.resize(mark.sequences);
  step_.spans.resize(mark.spans);
  for (std::vector<uint32_t>& table : step_.page_tables) table.resize(mark.entries);
  step_.masks.resize(mark.entries);
  step_.slot_positions.resize(mark.slot_positions);
  step_.logits.resize(mark.logits);
  step_.adjustments.resize(mark.adjustments);
  step_.mass_requests.resize(mark.masses);
}

// Lays out the span with `extra` tokens more than are ready; returns its first page-table entry.
uint32_t StepBuilder::add_span(const kv::Span& span, uint32_t extra) {
  const uint32_t first_entry = static_cast<uint32_t>(step_.masks.size());
  SpanEntry entry;
  entry.first_entry = first_entry;
  entry.slots = span.slots + extra;
  entry.logical_start = span.logical_start;
  entry.frame_start = span.frame_start;
  if (!span.positions.empty()) {
    entry.first_position = static_cast<uint32_t>(step_.slot_positions.size());
    step_.slot_positions.insert(step_.slot_positions.end(), span.positions.begin(),
                                span.positions.begin() + entry.slots);
  }
  step_.spans.push_back(entry);
  const uint32_t blocks = (entry.slots + page_slots_ - 1) / page_slots_;
  for (uint32_t b = 0; b < blocks; ++b) {
    for (uint32_t g = 0; g < step_.page_tables.size(); ++g) {
      step_.page_tables[g].push_back(span.blocks[b]->page(g));
    }
    step_.masks.push_back(span.masks[b]);
  }
  for (uint32_t slot = span.slots; slot < entry.slots; ++slot) {
    step_.masks[first_entry + slot / page_slots_] |= uint64_t{1} << (slot % page_slots_);
  }
  return first_entry;
}

uint32_t StepBuilder::add_sequence(std::span<const Segment> segments,
                                   std::span<const SegmentRows> rows) {
  const uint32_t first_row = step_.rows();
  const uint32_t sequence = static_cast<uint32_t>(step_.sequences.size());
  SequenceEntry entry;
  entry.first_span = static_cast<uint32_t>(step_.spans.size());
  size_t next = 0;
  for (uint32_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    const SegmentRows own =
        next < rows.size() && rows[next].segment == s ? rows[next++] : SegmentRows{};
    const uint32_t count = own.count;
    if (segment.span.slots + count == 0) continue;
    const uint32_t first_entry = add_span(segment.span, count);
    ++entry.span_count;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t slot = segment.span.slots + i;
      const int32_t position = segment.span.position(slot);
      step_.tokens.push_back(slot < segment.length ? segment.tokens[slot]
                                                   : own.draft[slot - segment.length]);
      step_.positions.push_back(position);
      step_.key_positions.push_back(position - segment.span.frame_start);
      step_.sequence_of.push_back(sequence);
      step_.store_entries.push_back(first_entry + slot / page_slots_);
      step_.store_slots.push_back(slot % page_slots_);
    }
  }
  step_.sequences.push_back(entry);
  return first_row;
}

}  // namespace tessera::engine
