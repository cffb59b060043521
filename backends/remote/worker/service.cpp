#include "backends/remote/worker/service.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

namespace tessera::remote {
namespace {

[[noreturn]] void fail_unknown(const char* what, uint64_t id) {
  fail(Status::invalid_argument,
       "remote: the worker has no " + std::string(what) + " " + std::to_string(id));
}

// The worker's memory is the device's.
Status as_device_status(Status status) {
  return status == Status::out_of_host_memory ? Status::out_of_device_memory : status;
}

}  // namespace

Service::Service(int socket, OpenDevice open)
    : socket_(socket), open_(std::move(open)), lane_(std::make_unique<Lane>()) {}

Service::~Service() {
  lane_->stop();
  for (auto& [id, pages] : pages_) pages->lane.stop();
  pages_.clear();
  weights_.clear();
}

void Service::run() {
  FrameHeader header;
  Bytes body;
  while (receive_frame(socket_, header, body)) accept(header, std::move(body));
}

void Service::accept(const FrameHeader& header, Bytes body) {
  if (header.kind != FrameKind::request) {
    fail(Status::device_lost, "remote: the worker takes requests only");
  }
  bool posted = false;
  if (header.lane == 0) {
    posted = lane_->post([this, header, body = std::move(body)] {
      serve<DeviceRequest>(header, body, {}, [this](auto& request) { return handle(request); });
    });
  } else {
    std::shared_ptr<Pages> pages;
    {
      std::lock_guard lock(mutex_);
      const auto found = pages_.find(header.lane);
      if (found != pages_.end()) pages = found->second;
    }
    // The lane ends before its pages do, so a plain reference is enough inside.
    posted = pages != nullptr &&
             pages->lane.post([this, &pages = *pages, header, body = std::move(body)] {
               Used used;
               const auto weight = [&](uint64_t id) {
                 std::lock_guard lock(mutex_);
                 const auto found = weights_.find(id);
                 if (found == weights_.end()) fail_unknown("weight", id);
                 used.push_back(found->second);
                 return found->second.get();
               };
               serve<PageRequest>(header, body, weight,
                                  [&](auto& request) { return handle(pages, used, request); });
             });
  }
  if (!posted) {
    send_failure(header, Status::invalid_argument,
                 "remote: the worker has no page memory " + std::to_string(header.lane));
  }
}

template <class Requests, class Handler>
void Service::serve(const FrameHeader& header, const Bytes& body, const Decoder::Weights& weights,
                    Handler handler) noexcept {
  try {
    auto request = decode<Requests>("request", body, weights);
    send(header, FrameKind::reply,
         std::visit([&](auto& one) { return encode(handler(one)); }, request));
  } catch (const Error& error) {
    send_failure(header, as_device_status(error.status()), error.what());
  } catch (const std::bad_alloc&) {
    send_failure(header, Status::out_of_device_memory, "remote: the worker has no memory left");
  } catch (const std::exception& error) {
    send_failure(header, Status::internal, error.what());
  }
}

void Service::send(const FrameHeader& request, FrameKind kind, const Bytes& body) noexcept {
  try {
    std::lock_guard lock(send_mutex_);
    send_frame(socket_,
               {.kind = kind, .lane = request.lane, .request = request.request, .bytes = 0}, body);
  } catch (...) {
    // Nobody may wait for a reply that does not come: the other end sees the stream end.
    ::shutdown(socket_, SHUT_RDWR);
  }
}

void Service::send_failure(const FrameHeader& request, Status status,
                           const std::string& message) noexcept {
  try {
    send(request, FrameKind::error, encode(Failure{.status = status, .message = message}));
  } catch (...) {
    ::shutdown(socket_, SHUT_RDWR);
  }
}

// ---- Lane 0

Backend& Service::device() const {
  if (backend_ == nullptr) {
    fail(Status::invalid_argument, "remote: the first request is Hello, which opens the device");
  }
  return *backend_;
}

DeviceInfo Service::handle(Hello& request) {
  if (request.version != kProtocolVersion) {
    fail(Status::version_mismatch, "remote: the worker speaks version " +
                                       std::to_string(kProtocolVersion) + ", not " +
                                       std::to_string(request.version) + "; build both together");
  }
  if (backend_ != nullptr) fail(Status::invalid_argument, "remote: the device is open");
  backend_ = open_({.math = request.math});
  return backend_->device();
}

uint64_t Service::handle(BeginWeight& request) {
  Arriving arriving{.desc = std::move(request.desc), .bytes = 0, .data = {}};
  const WeightDesc& desc = arriving.desc;
  if (__builtin_mul_overflow(uint64_t{desc.rows}, row_bytes(desc.type, desc.columns),
                             &arriving.bytes) ||
      arriving.bytes > kMostWeightBytes) {
    fail(Status::out_of_device_memory, "remote: weight '" + desc.name + "' is too large");
  }
  const uint64_t id = ++last_id_;
  arriving_.emplace(id, std::move(arriving));
  return id;
}

Done Service::handle(WeightPart& request) {
  const auto found = arriving_.find(request.id);
  if (found == arriving_.end()) fail_unknown("arriving weight", request.id);
  Arriving& arriving = found->second;
  if (request.data.size() > arriving.bytes - arriving.data.size()) {
    fail(Status::invalid_argument,
         "remote: more bytes than weight '" + arriving.desc.name + "' has");
  }
  arriving.data.insert(arriving.data.end(), request.data.begin(), request.data.end());
  return {};
}

uint64_t Service::handle(EndWeight& request) {
  const auto found = arriving_.find(request.id);
  if (found == arriving_.end()) fail_unknown("arriving weight", request.id);
  const Arriving arriving = std::move(found->second);
  arriving_.erase(found);
  if (arriving.data.size() != arriving.bytes) {
    fail(Status::invalid_argument, "remote: weight '" + arriving.desc.name + "' is not complete");
  }
  const auto reader = [&](uint64_t offset, void* out, uint64_t bytes) {
    if (offset > arriving.bytes || bytes > arriving.bytes - offset) {
      fail(Status::internal, "remote: weight '" + arriving.desc.name + "' is read past its end");
    }
    if (bytes > 0) std::memcpy(out, arriving.data.data() + offset, bytes);
  };
  std::shared_ptr<const Weight> weight = device().load_weight(arriving.desc, reader);
  const uint64_t device_bytes = weight->device_bytes();
  std::lock_guard lock(mutex_);
  weights_.emplace(request.id, std::move(weight));
  return device_bytes;
}

Done Service::handle(DropWeight& request) {
  if (arriving_.erase(request.id) > 0) return {};
  std::lock_guard lock(mutex_);
  if (weights_.erase(request.id) == 0) fail_unknown("weight", request.id);
  return {};
}

uint64_t Service::handle(PageBytes& request) {
  return device().page_bytes(request.layout, request.group);
}

std::string Service::handle(PageLayoutName& request) {
  return device().page_layout_name(request.layout);
}

CreatedPages Service::handle(CreatePages& request) {
  auto pages = std::make_shared<Pages>();
  pages->id = ++last_id_;
  pages->memory = device().create_pages(request.layout, request.counts);
  for (uint32_t group = 0; group < request.counts.size(); ++group) {
    pages->page_bytes.push_back(device().page_bytes(request.layout, group));
  }
  pages->counts = std::move(request.counts);
  CreatedPages created{.id = pages->id, .page_bytes = pages->page_bytes};
  std::lock_guard lock(mutex_);
  pages_.emplace(created.id, std::move(pages));
  return created;
}

Done Service::handle(DropPages& request) {
  std::shared_ptr<Pages> pages;
  {
    std::lock_guard lock(mutex_);
    const auto found = pages_.find(request.id);
    if (found == pages_.end()) fail_unknown("page memory", request.id);
    pages = std::move(found->second);
    pages_.erase(found);
  }
  pages->lane.stop();
  pages->programs.clear();
  return {};
}

RemoteStats Service::handle(CountObjects&) {
  RemoteStats stats;
  std::lock_guard lock(mutex_);
  stats.weights = static_cast<int64_t>(weights_.size() + arriving_.size());
  stats.page_memories = static_cast<int64_t>(pages_.size());
  for (const auto& [id, weight] : weights_) {
    stats.bytes += static_cast<int64_t>(weight->device_bytes());
  }
  for (const auto& [id, pages] : pages_) {
    stats.programs += pages->program_count.load();
    for (size_t g = 0; g < pages->counts.size(); ++g) {
      stats.bytes += static_cast<int64_t>(pages->page_bytes[g] * pages->counts[g]);
    }
  }
  return stats;
}

}  // namespace tessera::remote
