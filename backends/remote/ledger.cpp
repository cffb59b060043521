#include "backends/remote/ledger.hpp"

#include "backends/remote/connection.hpp"

namespace tessera::remote {
namespace {

constexpr size_t kMostBreaches = 100;

void add_to(RemoteStats& sum, const RemoteStats& difference) {
  sum.weights += difference.weights;
  sum.page_memories += difference.page_memories;
  sum.programs += difference.programs;
  sum.bytes += difference.bytes;
}

}  // namespace

Ledger& ledger() {
  static Ledger instance;
  return instance;
}

void Ledger::backend_opened(Connection& connection) noexcept {
  std::lock_guard lock(mutex_);
  ++report_.backends;
  open_.insert(&connection);
}

void Ledger::backend_closed(Connection& connection) noexcept {
  std::lock_guard lock(mutex_);
  --report_.backends;
  open_.erase(&connection);
}

void Ledger::worker_started() noexcept {
  std::lock_guard lock(mutex_);
  ++report_.workers;
}

void Ledger::worker_ended(bool well) noexcept {
  std::lock_guard lock(mutex_);
  --report_.workers;
  if (!well) ++report_.failed_workers;
}

void Ledger::worker_hangs() noexcept {
  std::lock_guard lock(mutex_);
  ++report_.failed_workers;
}

void Ledger::device_lost() noexcept {
  std::lock_guard lock(mutex_);
  ++report_.lost_devices;
}

void Ledger::step_submitted() noexcept {
  std::lock_guard lock(mutex_);
  ++report_.steps;
}

void Ledger::left_behind(const RemoteStats& stats) noexcept {
  std::lock_guard lock(mutex_);
  add_to(report_.left_behind, stats);
}

void Ledger::add(const RemoteStats& difference) noexcept {
  std::lock_guard lock(mutex_);
  add_to(report_.live, difference);
}

void Ledger::breach(const std::string& what) noexcept {
  std::lock_guard lock(mutex_);
  if (report_.breaches.size() < kMostBreaches) report_.breaches.push_back(what);
}

RemoteReport Ledger::report() {
  std::lock_guard lock(mutex_);
  return report_;
}

void Ledger::reset() {
  std::lock_guard lock(mutex_);
  report_ = RemoteReport{.live = report_.live,
                         .backends = report_.backends,
                         .workers = report_.workers,
                         .left_behind = {},
                         .breaches = {}};
}

void Ledger::kill_all_workers() {
  std::lock_guard lock(mutex_);
  for (Connection* connection : open_) connection->kill_worker();
}

RemoteReport remote_report() {
  return ledger().report();
}

void reset_remote_report() {
  ledger().reset();
}

void kill_all_workers() {
  ledger().kill_all_workers();
}

}  // namespace tessera::remote
