// What remote_report() reports: one ledger a process. All functions: any thread, none throws.
#pragma once

#include <mutex>
#include <set>
#include <string>

#include "backends/remote/remote.hpp"

namespace tessera::remote {

class Connection;

class Ledger {
 public:
  void backend_opened(Connection& connection) noexcept;
  void backend_closed(Connection& connection) noexcept;
  void worker_started() noexcept;
  void worker_ended(bool well) noexcept;
  // The worker of a closed connection goes on and is killed.
  void worker_hangs() noexcept;
  void device_lost() noexcept;
  void step_submitted() noexcept;
  void left_behind(const RemoteStats& stats) noexcept;

  // Counts objects in, or with negative numbers out.
  void add(const RemoteStats& difference) noexcept;

  // Notes that a rule of backend.hpp was broken.
  void breach(const std::string& what) noexcept;

  RemoteReport report();
  void reset();
  void kill_all_workers();

 private:
  std::mutex mutex_;
  RemoteReport report_;
  std::set<Connection*> open_;
};

Ledger& ledger();

}  // namespace tessera::remote
