// Whose turn it is with the pages: the engine's or a caller's.
#pragma once

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// The engine's thread works on pages with the lock free; `flag` says so to others.
class Context::Unlocked {
 public:
  Unlocked(Context& context, std::unique_lock<std::mutex>& guard, bool Context::*flag)
      : context_(context), guard_(guard), flag_(flag) {
    context_.*flag_ = true;
    guard_.unlock();
  }
  ~Unlocked() {
    guard_.lock();
    context_.*flag_ = false;
    if (context_.page_users_ > 0) context_.pages_free_.notify_all();
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  Context& context_;
  std::unique_lock<std::mutex>& guard_;
  bool Context::*const flag_;
};

// A caller's thread, between two steps. Waits for the end of the step under way. While one lives no
// step begins and the lock is free; the guard has it again afterwards.
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
