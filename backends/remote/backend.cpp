#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "backends/registry.hpp"
#include "backends/remote/faults.hpp"
#include "backends/remote/ledger.hpp"
#include "backends/remote/objects.hpp"
#include "backends/remote/remote.hpp"

namespace tessera::remote {
namespace {

constexpr char kName[] = "remote";

// The device counts one allocation before anything is read or sent.
void allocate(const std::string& what) {
  if (!allocation_fails()) return;
  fail(Status::out_of_device_memory, "remote: no device memory for " + what + ", as injected");
}

uint64_t checked_bytes(const WeightDesc& desc) {
  const std::string who = "weight '" + desc.name + "'";
  if (static_cast<size_t>(desc.type) >= kDTypeCount) {
    fail(Status::invalid_argument, who + ": its type is unknown");
  }
  const uint32_t block = dtype_info(desc.type).block_elements;
  if (desc.rows == 0 || desc.columns == 0 || desc.columns % block != 0) {
    fail(Status::invalid_argument,
         who + ": " + std::to_string(desc.rows) + " rows of " + std::to_string(desc.columns) +
             " columns; neither may be 0, and columns are a multiple of " + std::to_string(block));
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(uint64_t{desc.rows}, row_bytes(desc.type, desc.columns), &bytes) ||
      bytes > kMostWeightBytes) {
    fail(Status::out_of_device_memory, who + ": larger than the " +
                                           std::to_string(kMostWeightBytes) +
                                           " bytes that a weight may have");
  }
  return bytes;
}

RemoteBackend& as_remote(Backend& backend) {
  auto* remote = dynamic_cast<RemoteBackend*>(&backend);
  if (remote == nullptr) {
    fail(Status::invalid_argument,
         "backend: '" + backend.device().id + "' is no remote device; open \"remote\"");
  }
  return *remote;
}

std::vector<DeviceInfo> enumerate() {
  return {remote_device_info()};
}

std::unique_ptr<Backend> open(std::string_view device_id, const BackendOptions& options) {
  if (device_id != kName && device_id != std::string(kName) + ":0") {
    fail(Status::not_found, "device '" + std::string(device_id) + "': there is only \"remote\"");
  }
  return std::make_unique<RemoteBackend>(options);
}

}  // namespace

// ---- What every object does

Counted::Counted(std::shared_ptr<Device> device, const RemoteStats& stats)
    : device_(std::move(device)), stats_(stats) {
  ++device_->objects;
  ledger().add(stats_);
}

Counted::~Counted() {
  --device_->objects;
  ledger().add({-stats_.weights, -stats_.page_memories, -stats_.programs, -stats_.bytes});
}

RemoteWeight::RemoteWeight(std::shared_ptr<Device> device, WeightDesc desc, uint64_t id,
                           uint64_t device_bytes)
    : Weight(std::move(desc)),
      counted_(std::move(device), {.weights = 1, .bytes = static_cast<int64_t>(device_bytes)}),
      id_(id),
      device_bytes_(device_bytes),
      readers_(std::make_shared<std::atomic<int>>(0)) {}

RemoteWeight::~RemoteWeight() {
  if (readers_->load() > 0) ledger().breach("a weight is destroyed before a program that reads it");
  counted_.connection().drop(DropWeight{id_});
}

// ---- The backend

RemoteBackend::RemoteBackend(const BackendOptions& options) : device_(std::make_shared<Device>()) {
  info_ = remote_device_info();
  const DeviceInfo worker = connection().call(Hello{.math = options.math});
  info_.memory_total = worker.memory_total;
  info_.memory_free = worker.memory_free;
  ledger().backend_opened(connection());
}

RemoteBackend::~RemoteBackend() {
  if (device_->objects.load() > 0) {
    ledger().breach("a backend is destroyed before " + std::to_string(device_->objects.load()) +
                    " of its objects");
  }
  try {
    ledger().left_behind(connection().call(CountObjects{}, Connection::kDropPatience));
  } catch (...) {  // lost, and all with it
  }
  ledger().backend_closed(connection());
  connection().close();
}

std::unique_ptr<Weight> RemoteBackend::load_weight(const WeightDesc& desc,
                                                   const WeightReader& reader) {
  connection().check();
  const uint64_t bytes = checked_bytes(desc);
  allocate("weight '" + desc.name + "'");
  const uint64_t id = connection().call(BeginWeight{desc});
  try {
    for (uint64_t offset = 0; offset < bytes; offset += kPartBytes) {
      WeightPart part{.id = id, .data = Bytes(std::min(kPartBytes, bytes - offset))};
      reader(offset, part.data.data(), part.data.size());
      connection().call(std::move(part));
    }
    const uint64_t device_bytes = connection().call(EndWeight{id});
    return std::make_unique<RemoteWeight>(device_, desc, id, device_bytes);
  } catch (...) {
    connection().drop(DropWeight{id});
    throw;
  }
}

uint64_t RemoteBackend::page_bytes(const KvLayout& layout, uint32_t group) const {
  return connection().call(PageBytes{.layout = layout, .group = group});
}

std::string RemoteBackend::page_layout_name(const KvLayout& layout) const {
  return connection().call(PageLayoutName{layout});
}

std::unique_ptr<PageMemory> RemoteBackend::create_pages(const KvLayout& layout,
                                                        std::span<const uint32_t> page_counts) {
  connection().check();
  allocate("pages");
  CreatedPages created;
  try {
    connection().call_into(
        created, CreatePages{.layout = layout, .counts = {page_counts.begin(), page_counts.end()}});
    if (created.page_bytes.size() != page_counts.size()) {
      fail(Status::internal, "remote: the worker made other pages than asked");
    }
    uint64_t bytes = 0;  // the worker has them, so the sum fits
    for (size_t g = 0; g < page_counts.size(); ++g) bytes += created.page_bytes[g] * page_counts[g];
    return std::make_unique<RemotePageMemory>(device_, std::move(created), bytes);
  } catch (...) {
    if (created.id != 0) connection().drop(DropPages{created.id});
    throw;
  }
}

std::unique_ptr<Program> RemoteBackend::compile(const Graph& graph, PageMemory& pages,
                                                const ProgramOptions& options) {
  connection().check();
  auto* remote = dynamic_cast<RemotePageMemory*>(&pages);
  if (remote == nullptr || &remote->counted().device() != device_.get()) {
    fail(Status::invalid_argument,
         "pages: made by another backend; make them with create_pages of this one");
  }
  allocate("a program");
  return std::make_unique<RemoteProgram>(device_, remote->state(), graph, options);
}

// ---- remote.hpp

DeviceInfo remote_device_info() {
  DeviceInfo info;
  info.id = kName;
  info.name = "CPU of a worker process";
  info.kind = DeviceKind::other;
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long free_pages = ::sysconf(_SC_AVPHYS_PAGES);
  const auto page_size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (pages > 0) info.memory_total = static_cast<uint64_t>(pages) * page_size;
  if (free_pages > 0) info.memory_free = static_cast<uint64_t>(free_pages) * page_size;
  info.available = ::access(worker_path().c_str(), X_OK) == 0;
  if (!info.available) info.reason = "the worker '" + worker_path() + "' is not there; build it";
  return info;
}

void register_remote_provider() {
  register_provider({.name = kName, .enumerate = enumerate, .open = open});
}

RemoteStats worker_stats(Backend& backend) {
  return as_remote(backend).connection().call(CountObjects{});
}

void kill_worker(Backend& backend) {
  as_remote(backend).connection().kill_worker();
}

}  // namespace tessera::remote
