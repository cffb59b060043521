// Sequential, buffered reading of a GGUF header. Internal to runtime/gguf.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "backends/error.hpp"
#include "runtime/gguf/file.hpp"

namespace tessera::gguf {

// Every read is checked against the end first, so that nothing is allocated for a length that the
// file cannot hold. Errors read "PATH: CONTEXT: ...".
class Cursor {
 public:
  // Reads bytes [0, limit) of `file`, which must outlive the cursor.
  Cursor(const File& file, uint64_t limit);

  uint64_t position() const { return buffer_start_ + next_; }
  uint64_t remaining() const { return limit_ - position(); }

  // What is being read, for messages: "key 'general.name'".
  void set_context(std::string context) { context_ = std::move(context); }
  [[noreturn]] void fail(Status status, const std::string& message) const;

  // corrupt_file unless `count` items of at least `item_bytes` each can follow.
  void expect(uint64_t count, uint64_t item_bytes, const char* what) const;

  void read(void* out, uint64_t bytes);

  template <typename T>
  requires std::is_arithmetic_v<T> T number() {
    T value;
    expect(1, sizeof(T), "a number");
    read(&value, sizeof(T));
    return value;
  }

  // u64 length, then bytes. `max_bytes` is the format's own limit.
  std::string string(uint64_t max_bytes, const char* what);

 private:
  const File& file_;
  uint64_t limit_;
  std::string context_ = "header";
  std::vector<char> buffer_;
  uint64_t buffer_start_ = 0;  // file offset of buffer_[0]
  uint64_t filled_ = 0;        // valid bytes in the buffer
  uint64_t next_ = 0;          // the next byte to hand out
};

}  // namespace tessera::gguf
