// The backend's objects: handles on what lives in the worker.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "backends/remote/connection.hpp"

namespace tessera::remote {

// What a backend shares with its objects, so that one that outlives it still finds its worker gone
// instead of freed memory.
struct Device {
  Connection connection;
  std::atomic<int64_t> objects{0};  // alive
};

// Counts one object of a device, here and in the ledger, for as long as it lives.
class Counted {
 public:
  Counted(std::shared_ptr<Device> device, const RemoteStats& stats);
  ~Counted();
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  Device& device() const { return *device_; }
  Connection& connection() const { return device_->connection; }

 private:
  std::shared_ptr<Device> device_;
  RemoteStats stats_;
};

class RemoteWeight final : public Weight {
 public:
  RemoteWeight(std::shared_ptr<Device> device, WeightDesc desc, uint64_t id, uint64_t device_bytes);
  ~RemoteWeight() override;

  uint64_t device_bytes() const override { return device_bytes_; }

  uint64_t id() const { return id_; }
  const Counted& counted() const { return counted_; }
  // Programs alive that read this weight.
  const std::shared_ptr<std::atomic<int>>& readers() const { return readers_; }

 private:
  Counted counted_;
  uint64_t id_;
  uint64_t device_bytes_;
  std::shared_ptr<std::atomic<int>> readers_;
};

// What a page memory shares with its programs.
struct PageState {
  uint64_t id = 0;                   // in the worker, also the lane
  std::vector<uint64_t> page_bytes;  // by group
  std::atomic<bool> busy{false};     // a call is running
  std::atomic<int> steps{0};         // submitted and not yet awaited
  std::atomic<int> programs{0};      // alive
};

// Notes the breach of a rule of backend.hpp and throws it as `internal`.
[[noreturn]] void fail_breach(const std::string& what);

// Marks the one call that may run on a page memory and its programs. Throws when there is another.
class Exclusive {
 public:
  Exclusive(PageState& state, const char* call);
  ~Exclusive() { state_.busy.store(false, std::memory_order_release); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  PageState& state_;
};

class RemotePageMemory final : public PageMemory {
 public:
  RemotePageMemory(std::shared_ptr<Device> device, CreatedPages created, uint64_t bytes);
  ~RemotePageMemory() override;

  void read(uint32_t group, uint32_t page, void* out) override;
  void write(uint32_t group, uint32_t page, const void* in) override;
  void copy(uint32_t group, uint32_t from, uint32_t to) override;

  const Counted& counted() const { return counted_; }
  const std::shared_ptr<PageState>& state() const { return state_; }

 private:
  void check_idle(const char* call) const;
  uint64_t page_bytes(uint32_t group) const;

  Counted counted_;
  std::shared_ptr<PageState> state_;
};

class RemoteProgram final : public Program {
 public:
  // Compiles the graph. Throws invalid_argument for a weight of another device.
  RemoteProgram(std::shared_ptr<Device> device, std::shared_ptr<PageState> pages,
                const Graph& graph, const ProgramOptions& options);
  ~RemoteProgram() override;

  void plan(const Step& step) override;
  void submit() override;
  void wait(StepResult& result) override;

 private:
  enum class Stage { idle, planned, running };

  uint64_t compile(const Graph& graph, const ProgramOptions& options);

  Counted counted_;
  std::shared_ptr<PageState> pages_;
  std::vector<std::shared_ptr<std::atomic<int>>> weights_;  // their readers() counts
  uint64_t id_ = 0;
  Stage stage_ = Stage::idle;
  Connection::Sent running_;
};

class RemoteBackend final : public Backend {
 public:
  // Starts a worker and opens its device.
  explicit RemoteBackend(const BackendOptions& options);
  ~RemoteBackend() override;

  const DeviceInfo& device() const override { return info_; }
  std::unique_ptr<Weight> load_weight(const WeightDesc& desc, const WeightReader& reader) override;
  uint64_t page_bytes(const KvLayout& layout, uint32_t group) const override;
  std::string page_layout_name(const KvLayout& layout) const override;
  std::unique_ptr<PageMemory> create_pages(const KvLayout& layout,
                                           std::span<const uint32_t> page_counts) override;
  std::unique_ptr<Program> compile(const Graph& graph, PageMemory& pages,
                                   const ProgramOptions& options) override;

  Connection& connection() const { return device_->connection; }

 private:
  std::shared_ptr<Device> device_;
  DeviceInfo info_;
};

// The device as it is listed: the CPU of a worker, without starting one.
DeviceInfo remote_device_info();

}  // namespace tessera::remote
