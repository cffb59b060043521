#include "runtime/kv/chunk_folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <system_error>
#include <utility>

namespace tessera::kv {
namespace {

static_assert(sizeof(off_t) == 8, "files larger than 2 GiB need a 64-bit off_t");

constexpr uint64_t kMostPerCall = uint64_t{1} << 30;  // the system moves at most 2 GiB a call
constexpr std::array<std::string_view, 3> kKinds = {"anchor", "primer", "chunk"};
constexpr std::string_view kEnding = ".tsrkv";
constexpr std::string_view kHalfWritten = "tmp-";

std::string reason(int error) {
  return std::generic_category().message(error);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int operator*() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

// O_NONBLOCK: opening a FIFO must not wait for a writer. Regular files ignore it.
Descriptor open_in(int folder, const char* name, int flags) {
  int descriptor;
  do {
    descriptor = ::openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  } while (descriptor < 0 && errno == EINTR);
  return Descriptor(descriptor);
}

// Bytes read, fewer than wanted where the file ends; -1 and errno.
int64_t read_at(int descriptor, std::span<uint8_t> out, uint64_t offset) {
  uint64_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(descriptor, out.data() + done, std::min(out.size() - done, kMostPerCall),
                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  return static_cast<int64_t>(done);
}

// 0, or what went wrong.
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
class HalfWritten {
 public:
  explicit HalfWritten(int folder) : folder_(folder) {
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
  ~HalfWritten() {
    if (descriptor_ < 0) return;
    if (!published_) ::unlinkat(folder_, name_.data(), 0);
    ::close(descriptor_);
  }
  HalfWritten(const HalfWritten&) = delete;
  HalfWritten& operator=(const HalfWritten&) = delete;

  int error() const { return error_; }
  int descriptor() const { return descriptor_; }
  // 0, or what went wrong.
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

// Removes the file unless its writer lives.
void remove_if_stale(int folder, const char* name) {
  const Descriptor file = open_in(folder, name, O_RDONLY);
  if (file && lock(*file, LOCK_EX | LOCK_NB) && is_named(folder, name, *file)) {
    ::unlinkat(folder, name, 0);
  }
}

bool parse_hex(std::string_view digits, uint64_t& out) {
  const auto lower = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return std::ranges::all_of(digits, lower) &&
         std::from_chars(digits.data(), digits.data() + digits.size(), out, 16).ec == std::errc();
}

// What the name says; false where it is none of ours.
bool parse_name(std::string_view name, FolderEntry& entry) {
  const auto kind = std::ranges::find_if(kKinds, [&](std::string_view k) {
    return name.starts_with(k) && name.substr(k.size()).starts_with('-');
  });
  if (kind == kKinds.end() || !name.ends_with(kEnding)) return false;
  const std::string_view whole = name;
  name.remove_prefix(kind->size() + 1);
  name.remove_suffix(kEnding.size());
  if (name.size() < 34 || name.size() > 44 || name[32] != '-') return false;
  entry.kind = static_cast<CanonicalKind>(kind - kKinds.begin());
  if (!parse_hex(name.substr(0, 16), entry.identity.high) ||
      !parse_hex(name.substr(16, 16), entry.identity.low)) {
    return false;
  }
  name.remove_prefix(33);
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), entry.tokens);
  return error == std::errc() && whole == file_name(entry.kind, entry.identity, entry.tokens);
}

// What is lost with the file, a byte: its tokens have to be computed again, the sooner the later it
// was used.
double worth(const FolderEntry& entry, int64_t now) {
  const double age = static_cast<double>(std::max<int64_t>(now - entry.last_use, 0)) * 1e-9 + 1;
  const double bytes = static_cast<double>(std::max<uint64_t>(entry.bytes, 1));
  return static_cast<double>(entry.tokens) / bytes / age;
}

}  // namespace

std::span<uint8_t> FileBuffer::resize(uint64_t bytes) {
  if (bytes > capacity_) {
    data_.reset();
    size_ = capacity_ = 0;
    data_ = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    capacity_ = bytes;
  }
  size_ = bytes;
  return this->bytes();
}

std::string file_name(CanonicalKind kind, const Identity& identity, uint64_t tokens) {
  std::array<char, 80> name;
  std::snprintf(
      name.data(), name.size(), "%s-%016llx%016llx-%llu.tsrkv",
      kKinds[static_cast<size_t>(kind)].data(), static_cast<unsigned long long>(identity.high),
      static_cast<unsigned long long>(identity.low), static_cast<unsigned long long>(tokens));
  return name.data();
}

ChunkFolder::ChunkFolder(std::string path, uint64_t budget)
    : path_(std::move(path)), budget_(budget) {
  const auto open = [&] { return ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); };
  folder_ = open();
  if (folder_ < 0 && errno == ENOENT) {
    if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) {
      const int error = errno;
      const bool missing = error == ENOENT || error == ENOTDIR;
      fail(missing ? Status::not_found : Status::io_error,
           path_ + ": cannot make the folder" + (missing ? "; its parent must exist: " : ": ") +
               reason(error));
    }
    folder_ = open();
  }
  if (folder_ < 0) fail(Status::io_error, path_ + ": cannot open the folder: " + reason(errno));
  try {
    if (::faccessat(folder_, ".", W_OK | X_OK, AT_EACCESS) != 0) read_only_ = reason(errno);
    list();
  } catch (...) {
    ::close(folder_);
    throw;
  }
}

ChunkFolder::~ChunkFolder() {
  ::close(folder_);
}

Loaded ChunkFolder::load(const ChunkHead& wanted, FileBuffer& buffer, std::string& why) {
  const std::string name = file_name(wanted.kind, wanted.identity, wanted.tokens.size());
  const auto failed = [&](Loaded what, const std::string& text) {
    why = path_ + "/" + name + ": " + text;
    if (what == Loaded::damaged && read_only_.empty()) ::unlinkat(folder_, name.c_str(), 0);
    return what;
  };
  const Descriptor file = open_in(folder_, name.c_str(), O_RDONLY);
  if (!file) {
    const int error = errno;
    if (error == ENOENT) return Loaded::missing;
    return failed(Loaded::unreadable, "cannot open: " + reason(error));
  }
  struct stat info = {};
  if (::fstat(*file, &info) != 0) {
    return failed(Loaded::unreadable, "cannot read its size: " + reason(errno));
  }
  if (!S_ISREG(info.st_mode)) return failed(Loaded::unreadable, "is not a regular file");
  const uint64_t bytes = wanted.file_bytes();
  if (static_cast<uint64_t>(info.st_size) != bytes) {
    return failed(Loaded::damaged, "has " + std::to_string(info.st_size) + " bytes, must have " +
                                       std::to_string(bytes));
  }
  const int64_t got = read_at(*file, buffer.resize(bytes), 0);
  if (got < 0) return failed(Loaded::unreadable, "cannot read: " + reason(errno));
  if (static_cast<uint64_t>(got) != bytes) return failed(Loaded::damaged, "was truncated");
  switch (check(wanted, buffer.bytes())) {
    case ChunkCheck::good:
      break;
    case ChunkCheck::damaged:
      return failed(Loaded::damaged, "its checksum or its head is wrong");
    case ChunkCheck::other:
      return failed(Loaded::other, "is of another text, model or setting of the same identity");
  }
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  ::futimens(*file, now);  // its last use; a folder that is only read keeps none
  return Loaded::good;
}

bool ChunkFolder::publish(const ChunkHead& head, std::span<uint8_t> bytes,
                          std::span<const Identity> keep) {
  if (!read_only_.empty()) return false;
  const std::string name = file_name(head.kind, head.identity, head.tokens.size());
  struct stat info = {};
  if (::fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
      static_cast<uint64_t>(info.st_size) == bytes.size()) {
    const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    ::utimensat(folder_, name.c_str(), now, AT_SYMLINK_NOFOLLOW);
    return false;
  }
  if (!make_room(bytes.size(), keep)) return false;
  const auto check_error = [&](int error) {
    if (error == 0) return;
    fail(Status::io_error, path_ + "/" + name + ": cannot write: " + reason(error));
  };
  // A write beyond this limit would send SIGXFSZ, which ends a process that does not expect it.
  rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      bytes.size() > limit.rlim_cur) {
    check_error(EFBIG);
  }
  seal(head, bytes);
  HalfWritten file(folder_);
  check_error(file.error());
  check_error(write_all(file.descriptor(), bytes));
  check_error(file.publish(name.c_str()));
  bytes_ += bytes.size();
  return true;
}

bool ChunkFolder::make_room(uint64_t bytes, std::span<const Identity> keep) {
  if (bytes > budget_) return false;
  std::vector<FolderEntry> entries = list();
  uint64_t total = 0;
  for (const FolderEntry& entry : entries) total += entry.bytes;
  if (total <= budget_ - bytes) return true;
  std::erase_if(entries, [&](const FolderEntry& entry) {
    return std::ranges::find(keep, entry.identity) != keep.end();
  });
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  std::ranges::sort(entries, {}, [&](const FolderEntry& entry) { return worth(entry, now); });
  for (const FolderEntry& entry : entries) {
    if (total <= budget_ - bytes) break;
    remove(entry);
    total -= entry.bytes;
    bytes_ = total;
  }
  return total <= budget_ - bytes;
}

uint64_t ChunkFolder::bytes_of(CanonicalKind kind, const Identity& identity,
                               uint64_t tokens) noexcept {
  try {
    struct stat info = {};
    const std::string name = file_name(kind, identity, tokens);
    if (::fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return 0;
    return S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

std::vector<FolderEntry> ChunkFolder::list() {
  // Opened anew: descriptors that are copies of each other share their place in the folder.
  Descriptor folder(::openat(folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> names(folder ? ::fdopendir(*folder) : nullptr,
                                                  &::closedir);
  if (!names) fail(Status::io_error, path_ + ": cannot list the folder: " + reason(errno));
  folder.release();  // closedir closes it
  std::vector<FolderEntry> entries;
  uint64_t total = 0;
  while (true) {
    errno = 0;
    const dirent* next = ::readdir(names.get());
    if (!next) {
      if (errno == 0) break;
      fail(Status::io_error, path_ + ": cannot list the folder: " + reason(errno));
    }
    const std::string_view name = next->d_name;
    if (name.starts_with(kHalfWritten) && name.ends_with(kEnding)) {
      if (read_only_.empty()) remove_if_stale(folder_, next->d_name);
      continue;
    }
    FolderEntry entry;
    struct stat info = {};
    if (!parse_name(name, entry) ||
        ::fstatat(folder_, next->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode)) {
      continue;
    }
    entry.bytes = static_cast<uint64_t>(info.st_size);
    entry.last_use = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
    total += entry.bytes;
    entries.push_back(entry);
  }
  bytes_ = total;
  return entries;
}

std::optional<ChunkHead> ChunkFolder::head_of(const FolderEntry& entry) {
  const std::string name = file_name(entry.kind, entry.identity, entry.tokens);
  const Descriptor file = open_in(folder_, name.c_str(), O_RDONLY);
  struct stat info = {};
  if (!file || ::fstat(*file, &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  FileBuffer start;
  uint64_t needed = kChunkHeadBytes;
  std::optional<ChunkHead> head;
  while (!head && needed > 0) {
    const uint64_t wanted = needed;
    if (read_at(*file, start.resize(wanted), 0) != static_cast<int64_t>(wanted)) {
      return std::nullopt;
    }
    head = read_head(start.bytes(), static_cast<uint64_t>(info.st_size), needed);
  }
  if (head && (head->kind != entry.kind || head->identity != entry.identity)) return std::nullopt;
  return head;
}

bool ChunkFolder::remove(const FolderEntry& entry) {
  const std::string name = file_name(entry.kind, entry.identity, entry.tokens);
  if (::unlinkat(folder_, name.c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  fail(Status::io_error, path_ + "/" + name + ": cannot remove: " + reason(errno));
}

}  // namespace tessera::kv
