#include "runtime/gguf/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "backends/error.hpp"

namespace tessera::gguf {
namespace {

static_assert(sizeof(off_t) == 8, "files larger than 2 GiB need a 64-bit off_t");

std::string reason(int error) {
  return std::generic_category().message(error);
}

}  // namespace

File::File(std::string path) : path_(std::move(path)) {
  if (path_.find('\0') != std::string::npos) {
    fail(Status::invalid_argument, "a file path must not contain a NUL byte");
  }
  // O_NONBLOCK: opening a FIFO must not wait for a writer. Regular files ignore it.
  do {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    fail(missing ? Status::not_found : Status::io_error, path_ + ": cannot open: " + reason(error));
  }
  struct stat info = {};
  const int error = ::fstat(descriptor_, &info) == 0 ? 0 : errno;
  if (error != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor_);
    descriptor_ = -1;
    fail(Status::io_error,
         path_ + (error != 0              ? ": cannot read its size: " + reason(error)
                  : S_ISDIR(info.st_mode) ? ": is a directory; a model file is needed"
                                          : ": is not a regular file; a model file is needed"));
  }
  bytes_ = static_cast<uint64_t>(info.st_size);
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(std::exchange(other.bytes_, 0)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void File::read(uint64_t offset, void* out, uint64_t bytes) const {
  constexpr uint64_t kMaxCall = uint64_t{1} << 30;  // the system reads at most 2 GiB a call
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got =
        ::pread(descriptor_, to, std::min(bytes, kMaxCall), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Status::io_error, path_ + ": cannot read: " + reason(errno));
    if (got == 0) {
      fail(Status::corrupt_file, path_ + ": ends at byte " + std::to_string(offset) + ", " +
                                     std::to_string(bytes) +
                                     " bytes too early; the file was truncated");
    }
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
}

}  // namespace tessera::gguf
