// The one exception type of the project. It never crosses the C ABI: runtime/abi turns it into a
// tsr_status and a thread-local message.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace tessera {

// Same numbers as tsr_status in include/tessera/tessera.h (runtime/abi asserts it).
enum class Status : int32_t {
  ok = 0,
  invalid_argument = 1,
  out_of_host_memory = 2,
  out_of_device_memory = 3,
  device_lost = 4,
  unsupported = 5,
  cancelled = 6,
  capacity = 7,
  not_found = 8,
  corrupt_file = 9,
  version_mismatch = 10,
  busy = 11,
  internal = 12,
  timeout = 13,
  io_error = 14,
  buffer_too_small = 15,
};
inline constexpr uint32_t kStatusCount = static_cast<uint32_t>(Status::buffer_too_small) + 1;

// `message` names the file, field or argument that is wrong and says what would be right.
class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

[[noreturn]] inline void fail(Status status, const std::string& message) {
  throw Error(status, message);
}

}  // namespace tessera
