// The number of rows of a step against devices of different speeds.
#include "runtime/engine/step_pace.hpp"

#include <gtest/gtest.h>

namespace tessera::engine {
namespace {

using Seconds = std::chrono::duration<double>;

// A device that needs `fixed` seconds a step and `row` seconds a row; rows after 40 full steps.
uint32_t settled(StepPace pace, double fixed, double row) {
  for (int i = 0; i < 40; ++i) pace.note(pace.rows(), Seconds(fixed + row * pace.rows()));
  return pace.rows();
}

TEST(StepPace, FixedStaysFixed) {
  StepPace pace(64);
  pace.note(64, Seconds(10));
  pace.note(64, Seconds(1e-6));
  EXPECT_EQ(pace.rows(), 64u);
  EXPECT_EQ(pace.most(), 64u);
}

TEST(StepPace, SettlesWhereAStepEndsInTime) {
  for (const double row : {0.0002, 0.0005, 0.001}) {
    const uint32_t rows = settled(StepPace::adaptive(256), 0.002, row);
    EXPECT_LE(0.002 + row * rows, StepPace::kTarget + 1.5 * row) << row;
    EXPECT_GE(0.002 + row * (rows + StepPace::kWhole), StepPace::kTarget - 1.5 * row) << row;
    EXPECT_EQ(rows % StepPace::kWhole, 0u) << row;
  }
}

TEST(StepPace, HasBounds) {
  EXPECT_EQ(settled(StepPace::adaptive(256), 0, 1e-9), 256u);
  EXPECT_EQ(settled(StepPace::adaptive(256), 1, 1), StepPace::kFewest);
  EXPECT_EQ(settled(StepPace::adaptive(4), 0, 1e-9), 4u);
  EXPECT_EQ(settled(StepPace::adaptive(4), 1, 1), 4u);
  StepPace pace = StepPace::adaptive(256);
  EXPECT_EQ(pace.rows(), StepPace::kFirst);
  pace.note(pace.rows(), Seconds(0));
  EXPECT_EQ(pace.rows(), 2 * StepPace::kFirst);
  EXPECT_EQ(StepPace::stoppable(256).rows(), StepPace::kFirstStoppable);
  EXPECT_EQ(StepPace::stoppable(4).rows(), 4u);
}

TEST(StepPace, SmallStepsSayNothing) {
  StepPace pace = StepPace::adaptive(256);
  pace.note(1, Seconds(0.02));
  pace.note(15, Seconds(10));
  EXPECT_EQ(pace.rows(), StepPace::kFirst);
}

TEST(StepPace, OneSlowStepHalvesAtMost) {
  StepPace pace = StepPace::adaptive(256);
  pace.note(pace.rows(), Seconds(100));
  EXPECT_EQ(pace.rows(), StepPace::kFirst / 2);
}

}  // namespace
}  // namespace tessera::engine
