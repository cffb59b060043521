#include "runtime/abi/status.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "runtime/text/utf8.hpp"

namespace tessera::abi {
namespace {

constexpr size_t kMessageBytes = 2048;

thread_local char g_message[kMessageBytes] = "";

struct StatusName {
  Status status;
  tsr_status number;
  const char* name;
};

#define TSR_STATUS_ROW(internal, name) \
  StatusName {                         \
    Status::internal, name, #name      \
  }

constexpr StatusName kNames[] = {
    TSR_STATUS_ROW(ok, TSR_OK),
    TSR_STATUS_ROW(invalid_argument, TSR_INVALID_ARGUMENT),
    TSR_STATUS_ROW(out_of_host_memory, TSR_OUT_OF_HOST_MEMORY),
    TSR_STATUS_ROW(out_of_device_memory, TSR_OUT_OF_DEVICE_MEMORY),
    TSR_STATUS_ROW(device_lost, TSR_DEVICE_LOST),
    TSR_STATUS_ROW(unsupported, TSR_UNSUPPORTED),
    TSR_STATUS_ROW(cancelled, TSR_CANCELLED),
    TSR_STATUS_ROW(capacity, TSR_CAPACITY),
    TSR_STATUS_ROW(not_found, TSR_NOT_FOUND),
    TSR_STATUS_ROW(corrupt_file, TSR_CORRUPT_FILE),
    TSR_STATUS_ROW(version_mismatch, TSR_VERSION_MISMATCH),
    TSR_STATUS_ROW(busy, TSR_BUSY),
    TSR_STATUS_ROW(internal, TSR_INTERNAL),
    TSR_STATUS_ROW(timeout, TSR_TIMEOUT),
    TSR_STATUS_ROW(io_error, TSR_IO_ERROR),
    TSR_STATUS_ROW(buffer_too_small, TSR_BUFFER_TOO_SMALL),
};

constexpr bool numbers_agree() {
  return std::ranges::all_of(kNames, [](const StatusName& row) {
    return static_cast<tsr_status>(row.status) == row.number;
  });
}
static_assert(numbers_agree(), "Status and tsr_status have drifted apart");
static_assert(std::size(kNames) == kStatusCount,
              "the last Status is not the one kStatusCount names");

}  // namespace

void set_message(std::string_view message) noexcept {
  std::string_view cut = message.substr(0, kMessageBytes - 1);
  cut = cut.substr(0, text::utf8_complete_prefix(cut));
  std::memcpy(g_message, cut.data(), cut.size());
  g_message[cut.size()] = '\0';
}

void clear_message() noexcept {
  g_message[0] = '\0';
}

const char* message() noexcept {
  return g_message;
}

tsr_status report(Status status, std::string_view message) noexcept {
  set_message(message);
  return static_cast<tsr_status>(status);
}

}  // namespace tessera::abi

using namespace tessera::abi;

const char* tsr_status_name(tsr_status status) {
  for (const StatusName& row : kNames) {
    if (row.number == status) return row.name;
  }
  return "TSR_UNKNOWN";
}

const char* tsr_last_error(void) {
  return message();
}
