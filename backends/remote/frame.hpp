// Frames: length-prefixed messages on the stream socket between backend and worker.
#pragma once

#include <cstdint>
#include <span>

#include "backends/remote/wire.hpp"

namespace tessera::remote {

enum class FrameKind : uint32_t {
  request = 1,
  reply = 2,  // the request's Reply
  error = 3,  // a Failure: the call throws it
};

// Lies in front of each body, 32 bytes.
struct FrameHeader {
  uint32_t magic = kMagic;
  FrameKind kind = FrameKind::request;
  uint64_t lane = 0;     // queue of the worker: 0 for weights and the device, else a page memory
  uint64_t request = 0;  // chosen by the backend; the reply carries it back
  uint64_t bytes = 0;    // of the body, at most kMostBytes

  static constexpr uint32_t kMagic = 0x31525354;  // "TSR1"
  static constexpr uint64_t kMostBytes = uint64_t{1} << 31;
};
static_assert(sizeof(FrameHeader) == 32);

// Sends one frame; header.bytes is set from `body`. Throws device_lost when the other end is gone
// or takes nothing for the socket's send timeout, capacity for a body that is too large. One thread
// at a time.
void send_frame(int socket, FrameHeader header, std::span<const uint8_t> body);

// Receives one frame, blocking. False when the other end has closed the stream between two frames.
// Throws device_lost when the stream ends within a frame or holds no frame: wrong magic, unknown
// kind, a body above kMostBytes. Memory grows with what arrives, not with what is announced. One
// thread at a time.
bool receive_frame(int socket, FrameHeader& header, Bytes& body);

}  // namespace tessera::remote
