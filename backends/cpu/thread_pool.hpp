// Threads that run one step together: every thread walks the same list of phases, takes items of a
// phase as it comes, and meets the others at a barrier after it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace tessera::cpu {

// The threads of one step, what they take and where they meet. Waiting threads spin for some tens
// of microseconds and then sleep.
class Team {
 public:
  explicit Team(uint32_t threads) : threads_(threads), shares_(threads) {}

  // Calls work(i) for every i < count, spread over the threads, and returns when all are done.
  // Every thread of the team makes the same sequence of calls, each with its own number below
  // `threads`. `work` must not throw.
  //
  // Each thread has a run of neighbouring items, so that what it reads is one stream; who is done
  // helps the others. After `stop` items are left out.
  template <class Work>
  void parallel(uint32_t thread, uint32_t count, Work&& work) {
    for (uint32_t n = 0, share = thread; n < threads_; ++n) {
      const uint32_t first = begin(share, count), items = begin(share + 1, count) - first;
      while (!stopped()) {
        const uint32_t i = shares_[share].taken.fetch_add(1, std::memory_order_relaxed);
        if (i >= items) break;
        work(first + i);
      }
      share = share + 1 < threads_ ? share + 1 : 0;
    }
    meet();
  }

  // From any thread; `resume` from none of the team.
  void stop() { stopped_.store(true, std::memory_order_relaxed); }
  void resume() { stopped_.store(false, std::memory_order_relaxed); }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  struct alignas(64) Share {
    std::atomic<uint32_t> taken{0};  // items, and vain tries to take one
  };

  uint32_t begin(uint32_t share, uint32_t count) const {
    return static_cast<uint32_t>(uint64_t{count} * share / threads_);
  }
  void meet();

  const uint32_t threads_;
  std::vector<Share> shares_;
  std::atomic<bool> stopped_{false};
  alignas(64) std::atomic<uint32_t> arrived_{0};  // threads at the barrier
  alignas(64) std::atomic<uint32_t> phase_{0};    // phases completed
};

// One thread of a team.
struct Member {
  Team& team;
  uint32_t thread;

  template <class Work>
  void parallel(uint32_t count, Work&& work) const {
    team.parallel(thread, count, std::forward<Work>(work));
  }
};

// Workers that sleep between steps. One run at a time.
class ThreadPool {
 public:
  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Makes sure that runs of `threads` threads (the caller included) are possible. Throws
  // out_of_host_memory where the system refuses a thread.
  void reserve(uint32_t threads);

  // Runs job(context, thread) for thread 0 (the caller) to threads - 1; returns when all are done.
  // `threads` is at most what was reserved; `job` must not throw.
  using Job = void (*)(void* context, uint32_t thread);
  void run(uint32_t threads, Job job, void* context);

 private:
  void work(uint32_t thread, uint32_t run);  // `run`: value of run_ before its first

  std::vector<std::thread> workers_;  // worker i is thread i + 1
  Job job_ = nullptr;
  void* context_ = nullptr;
  uint32_t active_ = 0;                        // threads of the current run; 0: shut down
  alignas(64) std::atomic<uint32_t> run_{0};   // runs started
  alignas(64) std::atomic<uint32_t> busy_{0};  // workers that have not finished the current run
};

}  // namespace tessera::cpu
