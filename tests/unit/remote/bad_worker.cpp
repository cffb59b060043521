// A worker that misbehaves in the way that its name says.
#include <unistd.h>

#include <string_view>

#include "backends/remote/frame.hpp"
#include "backends/remote/protocol.hpp"

namespace {

using namespace tessera::remote;

// Answers the first request with `body`.
void answer(const Bytes& body, uint64_t request_offset) {
  FrameHeader header;
  Bytes request;
  if (!receive_frame(kWorkerSocket, header, request)) return;
  header.kind = FrameKind::reply;
  header.request += request_offset;
  send_frame(kWorkerSocket, header, body);
}

void wait_for_end() {
  FrameHeader header;
  Bytes request;
  while (receive_frame(kWorkerSocket, header, request)) {
  }
}

}  // namespace

int main(int, char** argv) {
  const std::string_view path = argv[0];
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (name == "fails") return 3;
  if (name == "silent") wait_for_end();
  if (name == "garbage") {
    const Bytes bytes(64, 0x77);
    if (::write(kWorkerSocket, bytes.data(), bytes.size()) < 0) return 1;
    wait_for_end();
  }
  if (name == "wrong-reply") {
    answer({1, 2, 3}, 0);
    wait_for_end();
  }
  if (name == "wrong-id") {
    answer({}, 7);
    wait_for_end();
  }
  if (name == "half-frame") {
    FrameHeader header;
    Bytes request;
    if (!receive_frame(kWorkerSocket, header, request)) return 1;
    header.kind = FrameKind::reply;
    header.bytes = 1000;  // which do not follow
    if (::write(kWorkerSocket, &header, sizeof header) < 0) return 1;
    return 4;
  }
  if (name == "hangs") {
    wait_for_end();
    ::pause();
  }
  if (name == "deaf") ::pause();  // reads nothing
  return 0;
}
