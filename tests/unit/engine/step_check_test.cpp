// What is right in a step is checked without building the messages that it would have been wrong
// with.
#include <gtest/gtest.h>

#include "backends/cpu/plan.hpp"
#include "tests/unit/engine/allocation_faults.hpp"

namespace tessera::test {
namespace {

TEST(StepCheck, AllocatesForTheStepNotForItsEntries) {
  constexpr uint32_t kEntries = 1000;
  Step step;
  for (uint32_t row = 0; row < 64; ++row) {
    step.tokens.push_back(1);
    step.positions.push_back(0);
    step.key_positions.push_back(0);
    step.sequence_of.push_back(0);
    step.store_entries.push_back(row);
    step.store_slots.push_back(0);
    step.logits.push_back({.row = row, .top_k = 4});
  }
  step.sequences = {{0, 1}};
  step.spans = {{.first_entry = 0, .slots = kEntries * 8}};
  step.masks.assign(kEntries, 0xff);
  step.page_tables.emplace_back();
  for (uint32_t page = 0; page < kEntries; ++page) step.page_tables[0].push_back(page);
  cpu::StepLimits limits;
  limits.max_rows = 64;
  limits.vocabulary = 320;
  limits.page_slots = 8;
  limits.page_counts = {kEntries};
  const int64_t before = g_count;
  cpu::check_step(step, limits);
  EXPECT_LE(g_count - before, 4);
}

}  // namespace
}  // namespace tessera::test
