#include "runtime/kv/shared_folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>
#include <system_error>

#include "backends/error.hpp"

namespace tessera::kv {
namespace {

static_assert(sizeof(off_t) == 8, "files larger than 2 GiB need a 64-bit off_t");

constexpr uint64_t kMostPerCall = uint64_t{1} << 30;  // the system moves at most 2 GiB a call
constexpr std::string_view kDraft = "tmp-";
constexpr std::string_view kDraftEnding = ".tsrkv";

// O_NONBLOCK: opening a FIFO must not wait for a writer. Regular files ignore it.
Descriptor open_in(int folder, const char* name, int flags) {
  int descriptor;
  do {
    descriptor = ::openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  } while (descriptor < 0 && errno == EINTR);
  return Descriptor(descriptor);
}

int write_all(int descriptor, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor, bytes.data(), std::min(bytes.size(), kMostPerCall));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  while (::fsync(descriptor) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

bool lock(int descriptor, int how) {
  while (::flock(descriptor, how) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

// Whether the name still is that of the open file.
bool is_named(int folder, const char* name, int descriptor) {
  struct stat open = {}, named = {};
  return ::fstat(descriptor, &open) == 0 &&
         ::fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && open.st_ino == named.st_ino &&
         open.st_dev == named.st_dev;
}

// A file under a name of its own that is gone when this ends, unless it was published. Its lock
// tells others that its writer lives.
class Draft {
 public:
  explicit Draft(int folder) : folder_(folder) {
    static std::atomic<uint64_t> count{0};
    // Somebody may take the file for a dead process's before it is locked: then another one.
    for (int tries = 0; tries < 100; ++tries) {
      std::snprintf(name_.data(), name_.size(), "tmp-%ld-%llu.tsrkv", static_cast<long>(::getpid()),
                    static_cast<unsigned long long>(count++));
      Descriptor file = open_in(folder, name_.data(), O_WRONLY | O_CREAT | O_EXCL);
      error_ = file ? 0 : errno;
      if (error_ == EEXIST) continue;
      if (error_ != 0) return;
      const bool taken = !lock(*file, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
      error_ = !taken && is_named(folder, name_.data(), *file) ? 0 : ENOENT;
      if (error_ != 0) continue;
      descriptor_ = file.release();
      return;
    }
  }
  ~Draft() {
    if (descriptor_ < 0) return;
    if (!published_) ::unlinkat(folder_, name_.data(), 0);
    ::close(descriptor_);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;

  int error() const { return error_; }
  int write(std::span<const uint8_t> bytes) const { return write_all(descriptor_, bytes); }
  int publish(const char* name) {
    if (::renameat(folder_, name_.data(), folder_, name) != 0) return errno;
    published_ = true;
    ::fsync(folder_);  // some systems refuse; then the name may be lost with the power
    return 0;
  }

 private:
  int folder_;
  int descriptor_ = -1;
  int error_ = 0;
  bool published_ = false;
  std::array<char, 64> name_{};
};

bool is_draft(std::string_view name) {
  return name.starts_with(kDraft) && name.ends_with(kDraftEnding);
}

// Removes a draft unless its writer lives.
void remove_if_stale(int folder, const char* name) {
  const Descriptor file = open_in(folder, name, O_RDONLY);
  if (file && lock(*file, LOCK_EX | LOCK_NB) && is_named(folder, name, *file)) {
    ::unlinkat(folder, name, 0);
  }
}

FileInfo info_of(const struct stat& from) {
  return {static_cast<uint64_t>(from.st_size),
          int64_t{from.st_mtim.tv_sec} * 1'000'000'000 + from.st_mtim.tv_nsec};
}

constexpr timespec kNow[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};

Descriptor open_folder(const std::string& path) {
  const auto open = [&] {
    return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  };
  Descriptor folder = open();
  if (folder) return folder;
  if (errno == ENOENT) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
      const int error = errno;
      const bool missing = error == ENOENT || error == ENOTDIR;
      fail(missing ? Status::not_found : Status::io_error,
           path + ": cannot make the folder" + (missing ? "; its parent must exist: " : ": ") +
               error_text(error));
    }
    Descriptor made = open();
    if (made) return made;
  }
  fail(Status::io_error, path + ": cannot open the folder: " + error_text(errno));
}

}  // namespace

std::string error_text(int error) {
  return std::generic_category().message(error);
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

int64_t SharedFile::read(std::span<uint8_t> out, uint64_t offset) const {
  uint64_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(*file_, out.data() + done, std::min(out.size() - done, kMostPerCall),
                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  return static_cast<int64_t>(done);
}

void SharedFile::touch() const {
  ::futimens(*file_, kNow);
}

SharedFolder::SharedFolder(std::string path) : path_(std::move(path)), folder_(open_folder(path_)) {
  if (::faccessat(*folder_, ".", W_OK | X_OK, AT_EACCESS) != 0) read_only_ = error_text(errno);
}

SharedFile SharedFolder::open(const std::string& name) const {
  SharedFile file(open_in(*folder_, name.c_str(), O_RDONLY));
  if (!file.file_) {
    const int error = errno;
    file.missing_ = error == ENOENT;
    if (!file.missing_) file.why_ = "cannot open: " + error_text(error);
    return file;
  }
  struct stat status = {};
  if (::fstat(*file.file_, &status) != 0) {
    file.why_ = "cannot read its size: " + error_text(errno);
  } else if (!S_ISREG(status.st_mode)) {
    file.why_ = "is not a regular file";
  }
  file.bytes_ = static_cast<uint64_t>(status.st_size);
  return file;
}

std::optional<FileInfo> SharedFolder::info(const std::string& name) const noexcept {
  struct stat status = {};
  if (::fstatat(*folder_, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
      !S_ISREG(status.st_mode)) {
    return std::nullopt;
  }
  return info_of(status);
}

void SharedFolder::touch(const std::string& name) const {
  ::utimensat(*folder_, name.c_str(), kNow, AT_SYMLINK_NOFOLLOW);
}

int SharedFolder::publish(const std::string& name, std::span<const uint8_t> bytes) const {
  // A write beyond this limit would send SIGXFSZ, which ends a process that does not expect it.
  rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      bytes.size() > limit.rlim_cur) {
    return EFBIG;
  }
  Draft draft(*folder_);
  if (draft.error() != 0) return draft.error();
  const int error = draft.write(bytes);
  return error != 0 ? error : draft.publish(name.c_str());
}

int SharedFolder::remove(const std::string& name) const {
  return ::unlinkat(*folder_, name.c_str(), 0) == 0 ? 0 : errno;
}

std::vector<NamedFile> SharedFolder::list() const {
  const auto check = [&](bool right) {
    if (!right) fail(Status::io_error, path_ + ": cannot list the folder: " + error_text(errno));
  };
  // Opened anew: descriptors that are copies of each other share their place in the folder.
  Descriptor folder(::openat(*folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  check(static_cast<bool>(folder));
  const std::unique_ptr<DIR, int (*)(DIR*)> names(::fdopendir(*folder), &::closedir);
  check(names != nullptr);
  folder.release();  // closedir closes it
  std::vector<NamedFile> files;
  while (true) {
    errno = 0;
    const dirent* next = ::readdir(names.get());
    if (!next) {
      check(errno == 0);
      return files;
    }
    if (is_draft(next->d_name)) {
      if (read_only_.empty()) remove_if_stale(*folder_, next->d_name);
      continue;
    }
    struct stat status = {};
    if (::fstatat(*folder_, next->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(status.st_mode)) {
      files.push_back({next->d_name, info_of(status)});
    }
  }
}

}  // namespace tessera::kv
