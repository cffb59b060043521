// A folder that several processes share: any of them may write, use or delete files at any time.
// Files come whole or not at all. Names are looked up in the folder that was opened, wherever it is
// moved; links in it are not followed. docs/chunk-files.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tessera::kv {

// Owns a file descriptor; negative: none.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int operator*() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

struct FileInfo {
  uint64_t bytes = 0;
  int64_t last_use = 0;  // its mtime, nanoseconds since 1970
};

struct NamedFile {
  std::string name;
  FileInfo info;
};

// A file open for reading, or why it is not.
class SharedFile {
 public:
  explicit operator bool() const { return why_.empty() && !missing_; }
  bool missing() const { return missing_; }
  const std::string& why() const { return why_; }
  uint64_t bytes() const { return bytes_; }
  // From `offset` on; fewer than wanted where the file ends. -1 and errno.
  int64_t read(std::span<uint8_t> out, uint64_t offset = 0) const;
  // It was used now. A folder that is only read keeps no times.
  void touch() const;

 private:
  friend class SharedFolder;
  explicit SharedFile(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
  bool missing_ = false;
  std::string why_;
  uint64_t bytes_ = 0;
};

// Every call may come from any thread. Errors that are returned are errno's; 0: none.
class SharedFolder {
 public:
  // Makes the folder, mode 0700, where it is missing. Throws not_found where its parent is missing,
  // io_error where it cannot be opened.
  explicit SharedFolder(std::string path);

  const std::string& path() const { return path_; }
  // Why nothing can be written; empty where it can.
  const std::string& read_only() const { return read_only_; }
  SharedFile open(const std::string& name) const;
  // Of a regular file; none where there is no such file.
  std::optional<FileInfo> info(const std::string& name) const noexcept;
  void touch(const std::string& name) const;

  // Writes a file, mode 0600, and gives it its name when it is on the disk.
  int publish(const std::string& name, std::span<const uint8_t> bytes) const;
  int remove(const std::string& name) const;
  // All regular files but the drafts of `publish`; those of dead processes are removed. Throws
  // io_error.
  std::vector<NamedFile> list() const;

 private:
  std::string path_;
  Descriptor folder_;
  std::string read_only_;
};

// errno in words.
std::string error_text(int error);

}  // namespace tessera::kv
