// The worker as an operating-system process with a socket to it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <mutex>
#include <string>

namespace tessera::remote {

// Starts a program with one end of a socket pair as its descriptor kWorkerSocket and owns the
// process until it is reaped. No other descriptor of ours reaches the program.
class WorkerProcess {
 public:
  // Throws unsupported when `path` cannot be started, out_of_host_memory when the system has no
  // process or descriptor left.
  explicit WorkerProcess(const std::string& path);
  // Kills the process if it still runs, and reaps it.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // Our end of the pair, close-on-exec; sends time out after kSendPatience. Owned by this object.
  int socket() const { return socket_; }

  // SIGKILL. Does nothing after the process has been reaped. Any thread.
  void kill() noexcept;

  // Waits for the end of the process, kills it after `patience`, reaps it. One thread at a time; a
  // second call does nothing.
  void reap(std::chrono::milliseconds patience) noexcept;

  // After reap: whether it ended by itself with exit code 0, or because kill() ended it.
  bool ended_well() const;
  // After reap, for people: "exit code 3".
  std::string ending() const;

  static constexpr std::chrono::seconds kSendPatience{30};

 private:
  mutable std::mutex mutex_;  // of the rest: a pid is signalled only while it is ours
  pid_t pid_ = -1;            // -1: reaped
  int wait_status_ = 0;
  bool killed_ = false;
  int socket_ = -1;
};

// The worker program that this build has made.
std::string worker_path();

}  // namespace tessera::remote
