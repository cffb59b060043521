// A file open for reading. Internal to runtime/gguf.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::gguf {

// Owns the descriptor. Reads with pread and never maps: a mapped file that another program
// truncates raises SIGBUS. `read` may be called from several threads at once.
class File {
 public:
  // Throws not_found when the path does not exist, io_error when it is not a regular file or cannot
  // be opened, invalid_argument for a path with a NUL byte.
  explicit File(std::string path);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }  // when opened

  // Reads exactly `bytes` at `offset`. Throws corrupt_file when the file ends before (it was
  // truncated after it was opened), io_error when the system refuses.
  void read(uint64_t offset, void* out, uint64_t bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
};

}  // namespace tessera::gguf
