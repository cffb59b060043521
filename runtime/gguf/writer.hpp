// Writes GGUF version 3, little endian.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/dtype.hpp"
#include "runtime/gguf/value.hpp"

namespace tessera::gguf {

// Collects keys and tensors, then writes the file in `finish`. The data goes to a temporary file in
// the same folder, which is synced and renamed over `path`: a reader sees the old file or the new
// one, never half of it. Without a successful `finish` the destructor removes the temporary file
// and `path` stays as it was. One thread at a time; not copyable.
class Writer {
 public:
  // Fills `out` with bytes [offset, offset + bytes) of the tensor. Called in `finish` with rising
  // offsets that cover the tensor once, so a source may also be a stream. May throw.
  using Source = std::function<void(uint64_t offset, void* out, uint64_t bytes)>;

  // Creates the temporary file. Throws not_found when the folder does not exist, io_error.
  explicit Writer(std::string path);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Sets a key, replacing an earlier value. Keys are written in the order they were first set.
  // "general.alignment" (u32, a power of two, 32 when absent) takes effect on the file's layout.
  // Throws invalid_argument for a bad name or alignment.
  void set(std::string_view key, Value value);

  // Adds a tensor; `shape` has the row length first. Throws invalid_argument when the name is
  // taken, empty or longer than 64 bytes, or when the shape is wrong (zero, overflow, partial
  // blocks).
  void add_tensor(std::string name, DType type, std::vector<uint64_t> shape, Source source);
  // The same, from memory in file layout; `data` must stay valid until `finish` returns.
  void add_tensor(std::string name, DType type, std::vector<uint64_t> shape, const void* data);

  // Writes everything, syncs and renames. Throws io_error, and what a source throws; after that the
  // writer is of no more use. A second call is invalid_argument.
  void finish();

 private:
  struct Entry {
    std::string name;
    DType type;
    std::vector<uint64_t> shape;
    uint64_t bytes;
    Source source;
  };

  uint64_t alignment() const;
  std::string header() const;
  void write(const void* data, uint64_t bytes);
  void pad_to(uint64_t alignment);

  std::string path_;
  std::string temporary_;  // empty when there is nothing to remove
  int descriptor_ = -1;
  bool finish_called_ = false;
  uint64_t written_ = 0;
  std::vector<std::pair<std::string, Value>> values_;
  std::vector<Entry> tensors_;
};

}  // namespace tessera::gguf
