#include "backends/remote/worker/lane.hpp"

#include <chrono>
#include <utility>

namespace tessera::remote {

Lane::Lane() : thread_([this] { work(); }) {}

bool Lane::post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
  return true;
}

void Lane::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Lane::pause(uint32_t microseconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::microseconds(microseconds), [this] { return stopping_; });
}

void Lane::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace tessera::remote
