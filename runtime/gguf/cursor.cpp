#include "runtime/gguf/cursor.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/gguf/format.hpp"

namespace tessera::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are read as they lie");

namespace {
constexpr uint64_t kBufferBytes = uint64_t{1} << 18;
}

Cursor::Cursor(const File& file, uint64_t limit)
    : file_(file), limit_(limit), buffer_(std::min(limit, kBufferBytes)) {}

void Cursor::fail(Status status, const std::string& message) const {
  tessera::fail(status, file_.path() + ": " + context_ + ": " + message);
}

void Cursor::expect(uint64_t count, uint64_t item_bytes, const char* what) const {
  if (count <= remaining() / item_bytes) return;
  const bool at_file_end = limit_ == file_.bytes();
  fail(Status::corrupt_file,
       std::string(what) + " at byte " + std::to_string(position()) + " needs " +
           (count > 1 ? std::to_string(count) + " x " : "") + std::to_string(item_bytes) +
           " bytes or more, but only " + std::to_string(remaining()) + " remain in the " +
           (at_file_end ? "file; it is truncated or corrupt"
                        : "header, which may take 256 MiB; the file is corrupt"));
}

void Cursor::read(void* out, uint64_t bytes) {
  expect(bytes, 1, "data");
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    if (next_ == filled_) {
      buffer_start_ += filled_;
      next_ = filled_ = 0;
      if (bytes >= buffer_.size()) {  // large items go straight to their place
        file_.read(buffer_start_, to, bytes);
        buffer_start_ += bytes;
        return;
      }
      const uint64_t fill = std::min<uint64_t>(buffer_.size(), limit_ - buffer_start_);
      file_.read(buffer_start_, buffer_.data(), fill);
      filled_ = fill;
    }
    const uint64_t step = std::min(bytes, filled_ - next_);
    std::memcpy(to, buffer_.data() + next_, step);
    to += step;
    next_ += step;
    bytes -= step;
  }
}

std::string Cursor::string(uint64_t max_bytes, const char* what) {
  const auto length = number<uint64_t>();
  if (length > max_bytes) {
    fail(Status::corrupt_file, std::string(what) + " of " + std::to_string(length) +
                                   " bytes; at most " + std::to_string(max_bytes) + " are allowed");
  }
  expect(length, 1, what);
  std::string text(length, '\0');
  read(text.data(), length);
  return text;
}

}  // namespace tessera::gguf
