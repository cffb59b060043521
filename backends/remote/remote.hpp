// The test backend `remote`: a device with its own address space. Each backend starts a worker
// process, which computes with the CPU backend; weights, pages, graphs and steps reach it as copies
// over a socket, and a step runs while the caller goes on. So whatever works here keeps what a GPU
// needs: nothing shares memory with the device, nothing relies on a step being done before its
// wait, and every call may fail. faults.hpp makes it fail.
//
// It also watches the rules of backend.hpp: one thread at a time on a page memory and its programs,
// no page access while a step is under way, plan before submit before wait, destruction in order.
// A breach is noted (remote_report().breaches), and the call, unless it is a destructor, throws
// `internal`.
//
// Linked into tests only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {
class Backend;
}

namespace tessera::remote {

// Adds the provider "remote", whose one device is "remote". Any thread; more than once is fine.
void register_remote_provider();

// Objects that live on a device.
struct RemoteStats {
  int64_t weights = 0;
  int64_t page_memories = 0;
  int64_t programs = 0;
  int64_t bytes = 0;  // of weights and pages

  bool operator==(const RemoteStats&) const = default;
};

// All remote devices of this process together.
struct RemoteReport {
  RemoteStats live;      // as this process counts
  int64_t backends = 0;  // not yet destroyed
  int64_t workers = 0;   // processes not yet reaped

  // Since the start or reset_remote_report().
  RemoteStats left_behind;            // what workers still held when their backend was destroyed
  uint64_t steps = 0;                 // submitted
  uint64_t lost_devices = 0;          // by fault, by kill, or by themselves
  uint64_t failed_workers = 0;        // ended badly without having been killed by this process:
                                      // a crash, or a sanitizer's finding
  std::vector<std::string> breaches;  // of the rules of backend.hpp; the first 100
};

RemoteReport remote_report();
void reset_remote_report();

// What the worker of `backend` itself counts. Throws invalid_argument when that is no remote
// backend, device_lost.
RemoteStats worker_stats(Backend& backend);

// Kills the worker process (SIGKILL) of one remote backend, or of all. Returns at once: calls that
// are under way and all later ones throw device_lost. Any thread.
void kill_worker(Backend& backend);
void kill_all_workers();

}  // namespace tessera::remote
