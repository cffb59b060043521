// What is given up first when memory is short: whatever costs least to compute again and is used
// least, for the bytes it holds. One rule for chunks, repaired heads and prefix runs.
//
// GreedyDual-Size-Frequency (Cherkasova, 1998): an entry is worth
//   level + uses * cost / bytes
// where `level` is that of the rule when the entry was last used, and the rule's rises to the value
// of each entry that is given up. So what is not used any more sinks, relative to the rest, however
// dear it was once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera::kv {

// What computing tokens takes, in multiply-adds. It comes from the model's numbers and not from a
// clock: the same calls give up the same entries on every machine.
struct Work {
  double token = 0;  // a token, in the linear layers
  double pair = 0;   // a token and one that it looks at, itself included

  double of(uint64_t tokens, uint64_t depth) const {
    const auto n = static_cast<double>(tokens);
    return n * (token + pair * (static_cast<double>(depth) + (n + 1) / 2));
  }
};

// An entry that can be given up.
struct Valued {
  double cost = 0;     // to compute it again
  uint64_t bytes = 0;  // that giving it up frees
  uint64_t uses = 0;   // prompts that took it
  double level = 0;    // the rule's when it was last used
  uint64_t turn = 0;   // of that use, among all

  // of its queue
  static constexpr size_t kNowhere = SIZE_MAX;
  double value = 0;
  size_t place = kNowhere;
  bool queued() const { return place != kNowhere; }
};

class ValueRule {
 public:
  ValueRule() = default;
  explicit ValueRule(Work work) : work_(work) {}

  const Work& work() const { return work_; }
  double level() const { return level_; }
  // What was never taken is worth as much as what was taken once: somebody made it.
  static double value(const Valued& entry) {
    const auto uses = static_cast<double>(std::max<uint64_t>(entry.uses, 1));
    return entry.level + uses * entry.cost / static_cast<double>(entry.bytes);
  }
  // The entry is in use, or was until now.
  void used(Valued& entry) noexcept {
    entry.level = level_;
    entry.turn = ++turn_;
  }
  void given_up(const Valued& entry) noexcept { level_ = std::max(level_, entry.value); }

  // Of two, the one to give up first: of equal value, the longest unused.
  static bool before(const Valued& a, const Valued& b) {
    return a.value != b.value ? a.value < b.value : a.turn < b.turn;
  }

 private:
  Work work_;
  double level_ = 0;
  uint64_t turn_ = 0;
};

// Entries that could be given up now, the first to go on top: a heap. All but `make_room` and
// `first` cost a logarithm of the number of entries, allocate nothing and do not fail.
class ValueQueue {
 public:
  // So many entries will fit.
  void make_room(size_t entries) {
    if (entries > heap_.capacity()) heap_.reserve(std::max(entries, 2 * heap_.capacity()));
  }
  void push(Valued& entry) noexcept;
  void remove(Valued& entry) noexcept;
  // Null when there is none.
  Valued* first() const { return heap_.empty() ? nullptr : heap_.front(); }
  size_t size() const { return heap_.size(); }

 private:
  void put(size_t place, Valued* entry) noexcept;
  void rise(size_t place, Valued* entry) noexcept;
  void sink(size_t place, Valued* entry) noexcept;

  std::vector<Valued*> heap_;
};

}  // namespace tessera::kv
