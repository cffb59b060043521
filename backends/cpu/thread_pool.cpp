#include "backends/cpu/thread_pool.hpp"

#include <string>
#include <system_error>

#include "backends/error.hpp"

namespace tessera::cpu {
namespace {

// A pause takes 40 to 140 cycles on current x86, so this is about 20 to 50 microseconds: longer
// than the uneven end of a phase, shorter than anybody would notice on a power meter.
constexpr uint32_t kSpins = 1000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Returns when `value` is no longer `old`.
void await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (uint32_t i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

void Team::meet() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_) {
    await_change(phase_, phase);
    return;
  }
  arrived_.store(0, std::memory_order_relaxed);
  for (Share& share : shares_) share.taken.store(0, std::memory_order_relaxed);
  phase_.store(phase + 1, std::memory_order_release);
  if (threads_ > 1) phase_.notify_all();
}

ThreadPool::~ThreadPool() {
  active_ = 0;
  run_.fetch_add(1, std::memory_order_release);
  run_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::reserve(uint32_t threads) {
  try {
    workers_.reserve(threads);
    while (workers_.size() + 1 < threads) {
      const uint32_t thread = static_cast<uint32_t>(workers_.size()) + 1;
      workers_.emplace_back(
          [this, thread, run = run_.load(std::memory_order_relaxed)] { work(thread, run); });
    }
  } catch (const std::system_error& error) {
    fail(Status::out_of_host_memory, "ProgramOptions::threads: cannot start thread " +
                                         std::to_string(workers_.size() + 1) + " of " +
                                         std::to_string(threads) + ": " + error.what());
  }
}

void ThreadPool::run(uint32_t threads, Job job, void* context) {
  if (threads > 1) {
    job_ = job;
    context_ = context;
    active_ = threads;
    busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
    run_.fetch_add(1, std::memory_order_release);
    run_.notify_all();
  }
  job(context, 0);
  if (threads > 1) {
    // Workers that are not of this run pass through too, so that none reads a later run's job.
    for (uint32_t busy; (busy = busy_.load(std::memory_order_acquire)) != 0;) {
      await_change(busy_, busy);
    }
  }
}

void ThreadPool::work(uint32_t thread, uint32_t run) {
  for (;; ++run) {
    await_change(run_, run);
    if (active_ == 0) return;
    if (thread < active_) job_(context_, thread);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_all();
  }
}

}  // namespace tessera::cpu
