#include "backends/remote/frame.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "backends/error.hpp"

namespace tessera::remote {
namespace {

constexpr size_t kPart = size_t{1} << 20;  // bytes; how far the body grows ahead of its arrival

std::string error_text(int error) {
  return std::system_category().message(error);
}

void send_all(int socket, const uint8_t* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(socket, data, size, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      fail(Status::device_lost, "remote: the other end takes no message: " + error_text(errno));
    }
    data += sent;
    size -= static_cast<size_t>(sent);
  }
}

// Bytes received; fewer than `size` only at the end of the stream.
size_t receive_all(int socket, uint8_t* data, size_t size) {
  size_t received = 0;
  while (received < size) {
    const ssize_t got = ::recv(socket, data + received, size - received, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == ECONNRESET) break;  // closed with unread bytes on its side
      fail(Status::device_lost, "remote: no message arrives: " + error_text(errno));
    }
    if (got == 0) break;
    received += static_cast<size_t>(got);
  }
  return received;
}

void check_header(const FrameHeader& header) {
  if (header.magic != FrameHeader::kMagic) {
    fail(Status::device_lost, "remote: the stream holds no frame: wrong magic number");
  }
  if (header.kind < FrameKind::request || header.kind > FrameKind::error) {
    fail(Status::device_lost, "remote: frame kind " +
                                  std::to_string(static_cast<uint32_t>(header.kind)) +
                                  " is unknown; kinds are 1 to 3");
  }
  if (header.bytes > FrameHeader::kMostBytes) {
    fail(Status::device_lost, "remote: a frame of " + std::to_string(header.bytes) +
                                  " bytes; the most is " + std::to_string(FrameHeader::kMostBytes));
  }
}

}  // namespace

void send_frame(int socket, FrameHeader header, std::span<const uint8_t> body) {
  if (body.size() > FrameHeader::kMostBytes) {
    fail(Status::capacity, "remote: a message of " + std::to_string(body.size()) +
                               " bytes; the most is " + std::to_string(FrameHeader::kMostBytes));
  }
  header.bytes = body.size();
  send_all(socket, reinterpret_cast<const uint8_t*>(&header), sizeof header);
  send_all(socket, body.data(), body.size());
}

bool receive_frame(int socket, FrameHeader& header, Bytes& body) {
  const size_t got = receive_all(socket, reinterpret_cast<uint8_t*>(&header), sizeof header);
  if (got == 0) return false;
  if (got < sizeof header) fail(Status::device_lost, "remote: the stream ends within a header");
  check_header(header);
  body.clear();
  while (body.size() < header.bytes) {
    const size_t start = body.size();
    const size_t part = std::min<uint64_t>(header.bytes - start, kPart);
    body.resize(start + part);
    if (receive_all(socket, body.data() + start, part) < part) {
      fail(Status::device_lost,
           "remote: the stream ends within a frame of " + std::to_string(header.bytes) + " bytes");
    }
  }
  return true;
}

}  // namespace tessera::remote
