// The pages for a caller's thread, between two steps of the engine.
#pragma once

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// Waits for the end of the step under way. While one lives no step begins and the lock is free; the
// guard has it again afterwards.
class Context::PageAccess {
 public:
  PageAccess(Context& context, std::unique_lock<std::mutex>& guard)
      : context_(context), guard_(guard) {
    ++context_.page_users_;
    context_.pages_free_.wait(guard_,
                              [&] { return !context_.computing_ && !context_.pages_taken_; });
    context_.pages_taken_ = true;
    guard_.unlock();
  }
  ~PageAccess() {
    guard_.lock();
    context_.pages_taken_ = false;
    --context_.page_users_;
    context_.pages_free_.notify_all();
    context_.wake();
  }
  PageAccess(const PageAccess&) = delete;
  PageAccess& operator=(const PageAccess&) = delete;

 private:
  Context& context_;
  std::unique_lock<std::mutex>& guard_;
};

}  // namespace tessera::engine
