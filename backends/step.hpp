// What changes from step to step: the small input a program reads, and what it gives back.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace tessera {

inline constexpr uint32_t kNoPositions = UINT32_MAX;

// A run of KV slots that lie in consecutive entries of the page table; slot i of the span is slot
// i % P of entry first_entry + i / P. Its key is rotated by (logical position - frame_start).
struct SpanEntry {
  uint32_t first_entry = 0;                // into Step::page_tables[group] and Step::masks
  uint32_t slots = 0;                      // slots looked at, hidden ones included
  int32_t logical_start = 0;               // logical position of slot 0; slot i is at + i ...
  int32_t frame_start = 0;                 // logical position whose keys have rotation 0
  uint32_t first_position = kNoPositions;  // ... unless this indexes Step::slot_positions
};

// The context of one session, in the order in which attention merges its spans.
struct SequenceEntry {
  uint32_t first_span = 0;  // into Step::spans
  uint32_t span_count = 0;
};

// Changes one logit before anything else looks at it: l > 0 ? l / penalty : l * penalty, then
// minus `subtract`. (repetition penalty; presence, frequency and bias)
struct LogitAdjustment {
  int32_t token = 0;
  float penalty = 1.0f;
  float subtract = 0.0f;
};

// One row whose logits are wanted.
struct LogitsRequest {
  uint32_t row = 0;
  uint32_t top_k = 0;     // how many of the largest logits to return; at most the vocabulary
  bool full = false;      // return all logits, or with a temperature all weights:
  float temperature = 0;  // e^((logit - largest) / temperature); 0: none
  uint32_t first_adjustment = 0;  // range in Step::adjustments, tokens distinct
  uint32_t adjustment_count = 0;
  uint32_t first_mask_word = UINT32_MAX;  // into Step::token_masks: bit t set = token t allowed;
                                          // a token that is not allowed has logit -infinity
};

// Rows of one sequence, in layers from first_layer on: how much they attend to each slot of the
// sequence's spans.
struct MassRequest {
  uint32_t sequence = 0;
  uint32_t first_row = 0;  // rows first_row .. first_row + rows - 1 are the sequence's
  uint32_t rows = 0;
  uint32_t first_layer = 0;
};

// Attention masses are integers, so that their sums do not depend on an order: units of a weight.
inline constexpr double kMassUnits = 1 << 22;

// Everything a step needs. Rows are tokens to compute; arrays named "of rows" have one entry a row.
struct Step {
  // of rows
  std::vector<int32_t> tokens;          // ids, 0 <= id < vocabulary
  std::vector<int32_t> positions;       // logical positions, >= 0
  std::vector<int32_t> key_positions;   // rotation of the row's stored key: position - frame start
  std::vector<uint32_t> sequence_of;    // into `sequences`
  std::vector<uint32_t> store_entries;  // page-table entry that takes the row's K and V
  std::vector<uint32_t> store_slots;    // slot within that page, < P

  std::vector<SequenceEntry> sequences;
  std::vector<SpanEntry> spans;
  std::vector<std::vector<uint32_t>> page_tables;  // [layer group][entry] = page of that group
  std::vector<uint64_t> masks;                     // of entries: bit s set = slot s is valid
  std::vector<int32_t> slot_positions;             // logical positions of spans that list them

  std::vector<LogitsRequest> logits;
  std::vector<LogitAdjustment> adjustments;
  std::vector<uint32_t> token_masks;

  std::vector<MassRequest> mass_requests;

  uint32_t rows() const { return static_cast<uint32_t>(tokens.size()); }
};

struct TokenLogit {
  int32_t token = 0;
  float logit = 0;
};

struct LogitsResult {
  std::vector<TokenLogit> top;  // largest first, ties to the lower id
  float log_sum_exp = 0;        // over all allowed tokens, after adjustments; NaN where a logit is
  float weight_sum = 0;         // with a temperature: of all weights
  std::vector<float> full;      // [vocabulary], logits or weights, after adjustments and mask
};

struct StepResult {
  std::vector<LogitsResult> logits;  // of Step::logits
  // Of Step::mass_requests: a number a slot, hidden ones included, span by span. In each row, head
  // and layer the weights sum to kMassUnits, but for rounding.
  std::vector<std::vector<uint64_t>> masses;
  bool stopped = false;  // by Program::stop: no logits, and the slots of its rows hold anything
};

}  // namespace tessera
