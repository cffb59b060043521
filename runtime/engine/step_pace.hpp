// How long a step may become: between two steps sessions are cancelled, joined and take turns, so a
// step should end in time on any device, at any depth of context.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tessera::engine {

class StepPace {
 public:
  static constexpr double kTarget = 0.03;  // seconds a step
  // Of steps that can be stopped and that nobody waits for who reads an answer.
  static constexpr double kStoppableTarget = 0.1;
  static constexpr uint32_t kFewest = 8;  // rows: fewer would only read the weights more often
  static constexpr uint32_t kFirst = 32;
  static constexpr uint32_t kFirstStoppable = 64;  // a question, as a rule
  static constexpr uint32_t kWhole = 16;           // kernels compute so many rows at a time

  // A fixed number of rows a step.
  explicit StepPace(uint32_t rows) : rows_(rows), most_(rows) {}
  // As many as end in time, at most `most`.
  static StepPace adaptive(uint32_t most) { return adaptive(most, kTarget, kFirst); }
  // The same for steps that can be stopped: longer, and from more rows on.
  static StepPace stoppable(uint32_t most) {
    return adaptive(most, kStoppableTarget, kFirstStoppable);
  }
  uint32_t most() const { return most_; }
  uint32_t rows() const { return fewest_ == 0 || rows_ < kWhole ? rows_ : rows_ / kWhole * kWhole; }

  // A step of `rows` rows took this long. Small steps say little: they read the weights for few
  // rows. One slow step (the processor was elsewhere) halves the next at most.
  void note(uint32_t rows, std::chrono::duration<double> taken) {
    if (fewest_ == 0 || rows * 2 < rows_) return;
    const double fitting = rows * target_ / std::max(taken.count(), 1e-6);
    const double next = std::clamp<double>(fitting, rows_ / 2, uint64_t{rows_} * 2);
    rows_ = static_cast<uint32_t>(std::clamp<double>(next, fewest_, most_));
  }

 private:
  static StepPace adaptive(uint32_t most, double target, uint32_t first) {
    StepPace pace(most);
    pace.target_ = target;
    pace.fewest_ = std::min(kFewest, most);
    pace.rows_ = std::min(first, most);
    return pace;
  }

  uint32_t rows_;
  uint32_t most_;
  double target_ = kTarget;
  uint32_t fewest_ = 0;  // 0: fixed
};

}  // namespace tessera::engine
