// Writes one step for the backend from the segments of the sessions that take part.
#pragma once

#include <cstdint>
#include <span>

#include "backends/step.hpp"
#include "runtime/engine/segment.hpp"

namespace tessera::engine {

// Rows that a segment contributes: its next `count` tokens. Behind its own stand those of `draft`.
struct SegmentRows {
  uint32_t segment = 0;
  uint32_t count = 0;
  std::span<const int32_t> draft;
};

class StepBuilder {
 public:
  StepBuilder(uint32_t page_slots, uint32_t layer_groups);

  // Sizes of the step's lists at some time.
  struct Mark {
    size_t rows, sequences, spans, entries, slot_positions, logits, adjustments, masses;
  };
  Mark mark() const noexcept;
  // Takes back all that was added since, what a call that threw left half done included.
  void rewind(const Mark& mark) noexcept;

  // Adds a sequence: all spans that are ready, and rows for the pending tokens of some segments, in
  // order; their blocks are there. Returns the index of its first row.
  uint32_t add_sequence(std::span<const Segment> segments, std::span<const SegmentRows> rows);

  // The step so far; requests for logits may be added.
  Step& step() { return step_; }

 private:
  uint32_t add_span(const kv::Span& span, uint32_t extra);

  uint32_t page_slots_;
  Step step_;
};

}  // namespace tessera::engine
