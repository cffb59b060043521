// What a session tells its reader.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "backends/error.hpp"
#include "runtime/engine/sampler.hpp"

namespace tessera::engine {

// Same numbers as tsr_event_kind and tsr_finish.
enum class EventKind : int32_t {
  none = 0,
  progress = 1,
  text = 2,
  done = 3,
  failed = 4,
  token = 5
};
enum class Finish : int32_t { none = 0, end = 1, stop = 2, length = 3, cancelled = 4 };

struct Event {
  EventKind kind = EventKind::none;
  std::string text;  // text; failed: the message
  Finish finish = Finish::none;
  Status status = Status::ok;  // failed
  uint64_t processed = 0;      // progress: prompt tokens that are ready
  uint64_t total = 0;          // progress: prompt tokens
  uint64_t tokens = 0;         // generated so far
  TokenReport token;           // token
};

// An event made beforehand, so that pushing it cannot fail.
using PreparedEvent = std::list<Event>;

// Bounded: `full` tells the engine to pause the session. The last event of an answer always fits;
// progress that nobody has read yet is replaced by newer progress.
class EventQueue {
 public:
  explicit EventQueue(uint32_t capacity) : capacity_(capacity) {}

  bool full() const { return events_.size() >= capacity_; }
  bool empty() const { return events_.empty(); }
  uint64_t room() const { return full() ? 0 : capacity_ - events_.size(); }
  void push(PreparedEvent event) noexcept {
    if (event.front().kind == EventKind::progress && !events_.empty() &&
        events_.back().kind == EventKind::progress) {
      events_.back() = std::move(event.front());
    } else {
      events_.splice(events_.end(), event);
    }
  }
  Event pop() {
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::list<Event> events_;
  uint32_t capacity_;
};

}  // namespace tessera::engine
