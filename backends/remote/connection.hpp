// Requests and replies between one backend and its worker, many in flight.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#include "backends/error.hpp"
#include "backends/remote/frame.hpp"
#include "backends/remote/process.hpp"
#include "backends/remote/protocol.hpp"

namespace tessera::remote {

// One worker and the requests to it. Any thread may call anything but close(). A reader thread
// hands each reply to the caller that waits for it. Once the device is lost every call throws
// device_lost with the first reason.
class Connection {
 public:
  // A request that has been sent. Its reply may be left unread.
  class Ticket {
   private:
    friend class Connection;
    bool done = false;  // guarded by Connection::mutex_, as the rest
    FrameKind kind = FrameKind::reply;
    Bytes body;
  };
  using Sent = std::shared_ptr<Ticket>;

  // How long a call waits for its reply before it gives the device up. Destructors wait less.
  static constexpr std::chrono::minutes kCallPatience{10};
  static constexpr std::chrono::seconds kDropPatience{30};
  static constexpr std::chrono::seconds kExitPatience{10};

  // Starts the worker program at `path`. Throws what WorkerProcess throws.
  explicit Connection(const std::string& path = worker_path(),
                      std::chrono::milliseconds exit_patience = kExitPatience);
  // Closes.
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends a request, to be awaited later.
  template <class Variant, class Request>
  Sent post(uint64_t lane, Request request, Encoder::WeightIds weights = {}) {
    return send(lane, encode(Variant(std::move(request)), std::move(weights)));
  }

  // Waits for the reply to a request. Throws the worker's error.
  template <class Request>
  typename Request::Reply await(const Sent& ticket,
                                std::chrono::milliseconds patience = kCallPatience) {
    const Bytes body = await_body(ticket, patience);
    return decode<typename Request::Reply>("reply", body);
  }

  // Sends a request to lane 0 and waits for the reply.
  template <class Request>
  typename Request::Reply call(Request request,
                               std::chrono::milliseconds patience = kCallPatience) {
    return await<Request>(post<DeviceRequest>(0, std::move(request)), patience);
  }

  // The same on the lane of a page memory.
  template <class Request>
  typename Request::Reply call_pages(uint64_t lane, Request request,
                                     Encoder::WeightIds weights = {},
                                     std::chrono::milliseconds patience = kCallPatience) {
    return await<Request>(post<PageRequest>(lane, std::move(request), std::move(weights)),
                          patience);
  }

  // Like call; where it throws, `reply` has what was decoded until then.
  template <class Request>
  void call_into(typename Request::Reply& reply, Request request) {
    const Bytes body = await_body(post<DeviceRequest>(0, std::move(request)), kCallPatience);
    Decoder decoder("reply", body);
    decoder(reply);
    decoder.finish();
  }

  // Has the worker drop something. One that is lost has dropped it already.
  template <class Request>
  void drop(Request request) noexcept {
    try {
      call(std::move(request), kDropPatience);
    } catch (...) {
    }
  }

  // Throws device_lost when the device is lost.
  void check();

  // Gives the device up: kills the worker, wakes all waiting calls. The first reason stays.
  void lose(const std::string& reason) noexcept;

  // SIGKILL to the worker and nothing else: the reader notices.
  void kill_worker() noexcept { process_.kill(); }

  // Ends the worker in order, by closing the stream, and reaps it; kills it when it does not end
  // within the exit patience. A second call does nothing.
  void close() noexcept;

 private:
  Sent send(uint64_t lane, const Bytes& body);
  Bytes await_body(const Sent& ticket, std::chrono::milliseconds patience);
  void read_replies() noexcept;
  void take_reply(const FrameHeader& header, Bytes& body);
  void end_reader(const std::string& reason) noexcept;

  const std::chrono::milliseconds exit_patience_;
  WorkerProcess process_;
  std::mutex send_mutex_;  // one frame at a time

  std::mutex mutex_;  // of the rest
  std::condition_variable changed_;
  std::unordered_map<uint64_t, Sent> waiting_;  // by request id
  uint64_t last_request_ = 0;
  bool lost_ = false;
  std::string reason_;
  bool closing_ = false;

  std::thread reader_;
};

}  // namespace tessera::remote
