// Every index of a step is checked here, so that no kernel has to.
#include <algorithm>
#include <cmath>
#include <string>

#include "backends/cpu/plan.hpp"

namespace tessera::cpu {
namespace {

// Where in the step a value stands; becomes text only where it is wrong.
struct Place {
  const char* field;
  size_t index;
  const char* member = "";
  size_t element = SIZE_MAX;  // of the entry, where it is a list

  std::string text() const {
    std::string text = std::string("Step::") + field + "[" + std::to_string(index) + "]" + member;
    if (element != SIZE_MAX) text += "[" + std::to_string(element) + "]";
    return text;
  }
};

Place at(const char* field, size_t index, const char* member = "") {
  return {field, index, member};
}

[[noreturn]] void bad(const std::string& what, const std::string& why) {
  fail(Status::invalid_argument, what + " " + why);
}

[[noreturn]] void bad(const Place& place, const std::string& why) {
  bad(place.text(), why);
}

// `first` .. `first + count` lies within `size` entries of `field`.
void check_range(const Place& what, uint64_t first, uint64_t count, const char* field,
                 size_t size) {
  if (first + count > size) {
    bad(what, "covers entries " + std::to_string(first) + " to " + std::to_string(first + count) +
                  " of Step::" + field + ", which has " + std::to_string(size));
  }
}

template <class T>
void check_size(const char* field, const std::vector<T>& list, size_t rows) {
  if (list.size() != rows) {
    bad(std::string("Step::") + field, "has " + std::to_string(list.size()) +
                                           " entries; Step::tokens has " + std::to_string(rows));
  }
}

void check_below(const Place& what, uint64_t value, uint64_t limit, const char* of) {
  if (value >= limit) {
    bad(what,
        "is " + std::to_string(value) + "; it must be below " + std::to_string(limit) + ", " + of);
  }
}

void check_token(const Place& what, int64_t token, uint32_t vocabulary) {
  if (token < 0 || token >= vocabulary) {
    bad(what, "is " + std::to_string(token) + "; the vocabulary has " + std::to_string(vocabulary) +
                  " tokens");
  }
}

void check_rows(const Step& step, const StepLimits& limits) {
  const size_t rows = step.tokens.size();
  if (rows == 0 || rows > limits.max_rows) {
    bad("Step::tokens", "has " + std::to_string(rows) + " rows; the program takes 1 to " +
                            std::to_string(limits.max_rows));
  }
  check_size("positions", step.positions, rows);
  check_size("key_positions", step.key_positions, rows);
  check_size("sequence_of", step.sequence_of, rows);
  check_size("store_entries", step.store_entries, rows);
  check_size("store_slots", step.store_slots, rows);
  for (size_t r = 0; r < rows; ++r) {
    check_token(at("tokens", r), step.tokens[r], limits.vocabulary);
    if (step.positions[r] < 0) {
      bad(at("positions", r),
          "is " + std::to_string(step.positions[r]) + "; it must not be negative");
    }
    check_below(at("sequence_of", r), step.sequence_of[r], step.sequences.size(),
                "the number of Step::sequences");
    check_below(at("store_entries", r), step.store_entries[r], step.masks.size(),
                "the number of page-table entries");
    check_below(at("store_slots", r), step.store_slots[r], limits.page_slots,
                "the slots of a page");
  }
}

void check_tables(const Step& step, const StepLimits& limits) {
  if (step.page_tables.size() != limits.page_counts.size()) {
    bad("Step::page_tables", "has " + std::to_string(step.page_tables.size()) +
                                 " groups; the pages have " +
                                 std::to_string(limits.page_counts.size()));
  }
  for (size_t g = 0; g < step.page_tables.size(); ++g) {
    const std::vector<uint32_t>& table = step.page_tables[g];
    if (table.size() != step.masks.size()) {
      bad(at("page_tables", g), "has " + std::to_string(table.size()) +
                                    " entries; Step::masks has " +
                                    std::to_string(step.masks.size()));
    }
    for (size_t e = 0; e < table.size(); ++e) {
      check_below({"page_tables", g, "", e}, table[e], limits.page_counts[g],
                  "the pages of the group");
    }
  }
}

// Two rows that store to one slot would leave what chance decides.
void check_stores(const Step& step, const StepLimits& limits) {
  struct Store {
    uint64_t slot;
    uint32_t row;
  };
  std::vector<Store> stores(step.rows());
  for (const std::vector<uint32_t>& table : step.page_tables) {
    for (uint32_t r = 0; r < step.rows(); ++r) {
      const uint64_t page = table[step.store_entries[r]];
      stores[r] = {page * limits.page_slots + step.store_slots[r], r};
    }
    std::sort(stores.begin(), stores.end(), [](const Store& a, const Store& b) {
      return a.slot != b.slot ? a.slot < b.slot : a.row < b.row;
    });
    for (size_t i = 1; i < stores.size(); ++i) {
      if (stores[i - 1].slot == stores[i].slot) {
        bad(at("store_slots", stores[i].row),
            "is the slot that row " + std::to_string(stores[i - 1].row) + " stores to");
      }
    }
  }
}

void check_spans(const Step& step, const StepLimits& limits) {
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    check_range(at("sequences", i), step.sequences[i].first_span, step.sequences[i].span_count,
                "spans", step.spans.size());
  }
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const SpanEntry& span = step.spans[i];
    const uint64_t entries = (uint64_t{span.slots} + limits.page_slots - 1) / limits.page_slots;
    check_range(at("spans", i), span.first_entry, entries, "masks", step.masks.size());
    if (span.first_position != kNoPositions) {
      check_range(at("spans", i), span.first_position, span.slots, "slot_positions",
                  step.slot_positions.size());
    } else if (int64_t{span.logical_start} + span.slots > int64_t{INT32_MAX} + 1) {
      bad(at("spans", i), "starts at " + std::to_string(span.logical_start) + " and has " +
                              std::to_string(span.slots) +
                              " slots; positions must not exceed 2147483647");
    }
  }
}

void check_logits(const Step& step, const StepLimits& limits) {
  // The last request that adjusted each token, plus 1.
  std::vector<uint32_t> adjusted(step.adjustments.empty() ? 0 : limits.vocabulary, 0);
  const uint64_t mask_words = (uint64_t{limits.vocabulary} + 31) / 32;
  for (uint32_t i = 0; i < step.logits.size(); ++i) {
    const LogitsRequest& request = step.logits[i];
    const Place what = at("logits", i);
    check_below(at("logits", i, ".row"), request.row, step.rows(), "the rows of the step");
    check_below(at("logits", i, ".top_k"), request.top_k, uint64_t{limits.vocabulary} + 1,
                "one more than the vocabulary");
    if (!(request.temperature >= 0)) {
      bad(at("logits", i, ".temperature"), "is negative or no number");
    }
    check_range(what, request.first_adjustment, request.adjustment_count, "adjustments",
                step.adjustments.size());
    if (request.first_mask_word != UINT32_MAX) {
      check_range(what, request.first_mask_word, mask_words, "token_masks",
                  step.token_masks.size());
    }
    for (uint32_t j = 0; j < request.adjustment_count; ++j) {
      const size_t index = size_t{request.first_adjustment} + j;
      const LogitAdjustment& adjustment = step.adjustments[index];
      check_token(at("adjustments", index, ".token"), adjustment.token, limits.vocabulary);
      if (!(adjustment.penalty > 0) || !std::isfinite(adjustment.penalty)) {
        bad(at("adjustments", index, ".penalty"), "must be positive and finite");
      }
      if (std::isnan(adjustment.subtract)) bad(at("adjustments", index, ".subtract"), "is NaN");
      uint32_t& seen = adjusted[static_cast<size_t>(adjustment.token)];
      if (seen == i + 1) {
        bad(at("adjustments", index),
            "adjusts token " + std::to_string(adjustment.token) + " a second time in one request");
      }
      seen = i + 1;
    }
  }
}

void check_masses(const Step& step) {
  for (size_t i = 0; i < step.mass_requests.size(); ++i) {
    const MassRequest& request = step.mass_requests[i];
    check_below(at("mass_requests", i, ".sequence"), request.sequence, step.sequences.size(),
                "the sequences of the step");
    check_range(at("mass_requests", i), request.first_row, request.rows, "rows", step.rows());
    for (uint32_t r = 0; r < request.rows; ++r) {
      if (step.sequence_of[request.first_row + r] != request.sequence) {
        bad(at("mass_requests", i), "row " + std::to_string(request.first_row + r) +
                                        " is not of sequence " + std::to_string(request.sequence));
      }
    }
  }
}

}  // namespace

void check_step(const Step& step, const StepLimits& limits) {
  check_rows(step, limits);
  check_tables(step, limits);
  check_stores(step, limits);
  check_spans(step, limits);
  check_logits(step, limits);
  check_masses(step);
}

}  // namespace tessera::cpu
