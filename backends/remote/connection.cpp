#include "backends/remote/connection.hpp"

#include <sys/socket.h>

#include <exception>
#include <utility>

#include "backends/remote/ledger.hpp"

namespace tessera::remote {

Connection::Connection(const std::string& path, std::chrono::milliseconds exit_patience)
    : exit_patience_(exit_patience), process_(path) {
  ledger().worker_started();
  try {
    reader_ = std::thread([this] { read_replies(); });
  } catch (...) {
    process_.kill();
    process_.reap(exit_patience_);
    ledger().worker_ended(true);
    fail(Status::out_of_host_memory, "remote: no thread for the worker's replies");
  }
}

Connection::~Connection() {
  close();
}

void Connection::check() {
  std::lock_guard lock(mutex_);
  if (lost_) fail(Status::device_lost, reason_);
}

Connection::Sent Connection::send(uint64_t lane, const Bytes& body) {
  auto ticket = std::make_shared<Ticket>();
  FrameHeader header;
  header.lane = lane;
  {
    std::lock_guard lock(mutex_);
    if (lost_) fail(Status::device_lost, reason_);
    header.request = ++last_request_;
    waiting_.emplace(header.request, ticket);
  }
  try {
    std::lock_guard lock(send_mutex_);
    send_frame(process_.socket(), header, body);
  } catch (const Error& error) {
    {
      std::lock_guard lock(mutex_);
      waiting_.erase(header.request);
    }
    if (error.status() != Status::device_lost) throw;  // nothing was sent
    lose(error.what());
    check();
  }
  return ticket;
}

Bytes Connection::await_body(const Sent& ticket, std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience, [&] { return lost_ || ticket->done; })) {
    lock.unlock();
    lose("remote: no reply within " + std::to_string(patience.count()) + " ms");
    lock.lock();
  }
  if (lost_) fail(Status::device_lost, reason_);
  Bytes body = std::move(ticket->body);
  const FrameKind kind = ticket->kind;
  lock.unlock();
  if (kind == FrameKind::error) {
    const Failure failure = decode<Failure>("error", body);
    fail(failure.status, failure.message);
  }
  return body;
}

void Connection::lose(const std::string& reason) noexcept {
  {
    std::lock_guard lock(mutex_);
    if (lost_) return;
    lost_ = true;
    try {
      reason_ = reason;
    } catch (...) {  // no memory for the reason: device_lost says enough
    }
    waiting_.clear();
    if (!closing_) ledger().device_lost();
  }
  process_.kill();
  ::shutdown(process_.socket(), SHUT_RDWR);
  changed_.notify_all();
}

void Connection::close() noexcept {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  if (!reader_.joinable()) return;
  ::shutdown(process_.socket(), SHUT_WR);  // the worker sees the end of the stream and exits
  // The reader ends when the worker's end of the socket closes, so it must not wait for ever.
  {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, exit_patience_, [&] { return lost_; })) ledger().worker_hangs();
  }
  process_.kill();  // does nothing to a worker that has been reaped
  reader_.join();
}

void Connection::read_replies() noexcept {
  std::string reason;
  try {
    FrameHeader header;
    Bytes body;
    while (receive_frame(process_.socket(), header, body)) take_reply(header, body);
  } catch (const std::exception& error) {
    try {
      reason = error.what();
    } catch (...) {
    }
  }
  end_reader(reason);
}

void Connection::take_reply(const FrameHeader& header, Bytes& body) {
  {
    std::lock_guard lock(mutex_);
    const auto found = waiting_.find(header.request);
    if (found == waiting_.end() || header.kind == FrameKind::request) {
      if (lost_) return;
      fail(Status::device_lost, "remote: the worker answers what nobody asked");
    }
    found->second->kind = header.kind;
    found->second->body = std::move(body);
    found->second->done = true;
    waiting_.erase(found);
  }
  changed_.notify_all();
}

// The stream has ended, by either side: reaps the worker and tells everybody. `reason` is empty
// when it ended between two frames, so that the worker is on its way out by itself.
void Connection::end_reader(const std::string& reason) noexcept {
  if (!reason.empty()) lose(reason);
  process_.reap(exit_patience_);
  ledger().worker_ended(process_.ended_well());
  try {
    lose("remote: the worker has ended (" + process_.ending() + ")");
  } catch (...) {  // no memory for the reason
    lose({});
  }
}

}  // namespace tessera::remote
