// One thread that does tasks in the order in which they came.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace tessera::remote {

class Lane {
 public:
  Lane();
  ~Lane() { stop(); }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Adds a task, which throws nothing. False after stop. Any thread.
  bool post(std::function<void()> task);

  // Does the tasks that are there and ends the thread. Not from a task of this lane, and by one
  // thread at a time; more than once is fine.
  void stop();

  // Within a task: waits, but no longer than until stop.
  void pause(uint32_t microseconds);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace tessera::remote
