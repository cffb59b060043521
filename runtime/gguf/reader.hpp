// Reads GGUF files, versions 2 and 3, little endian. docs/gguf.md lists types and limits.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "backends/dtype.hpp"
#include "runtime/gguf/file.hpp"
#include "runtime/gguf/value.hpp"

namespace tessera::gguf {

class Cursor;

// One entry of the tensor table, checked: it lies inside the file and overlaps no other.
struct Tensor {
  std::string name;
  DType type;
  std::vector<uint64_t> shape;  // 1 to 4 lengths, row length first (ggml's ne)
  uint64_t offset;              // of the first byte, from the start of the file
  uint64_t bytes;               // shape in `type`, without padding
};

// An open GGUF file: its keys and tensor table in memory, its tensor data on disk.
//
// Movable; owns the file descriptor. All const functions may be called from several threads at
// once. References, pointers and views that it returns live as long as the reader (moves included).
// Every Error names the file, and the key or tensor where there is one.
class Reader {
 public:
  using Values = std::map<std::string, Value, std::less<>>;

  // Reads header, keys and tensor table, not the tensor data. Throws not_found (no such file),
  // io_error (a directory, unreadable), corrupt_file (empty, truncated, not GGUF, contradictory),
  // unsupported (big endian, other version, nested arrays, a tensor type that is not listed).
  explicit Reader(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint64_t file_bytes() const { return file_.bytes(); }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }  // of tensor data, bytes

  // All keys, in byte order of their names.
  const Values& values() const { return values_; }
  // nullptr when the key is absent.
  const Value* find(std::string_view key) const;

  // Typed access. Without a default an absent key is corrupt_file; with one it gives the default.
  // A value of another type, or one that does not fit, is corrupt_file in both forms. Integers may
  // be stored in any integer type, floats as f32 or f64 (not checked to be finite).
  uint64_t get_uint(std::string_view key) const;
  uint64_t get_uint(std::string_view key, uint64_t absent) const;
  double get_float(std::string_view key) const;
  double get_float(std::string_view key, double absent) const;
  bool get_bool(std::string_view key) const;
  bool get_bool(std::string_view key, bool absent) const;
  std::string_view get_string(std::string_view key) const;
  // `absent` must outlive the result.
  std::string_view get_string(std::string_view key, std::string_view absent) const;
  const std::vector<std::string>& get_strings(std::string_view key) const;
  std::vector<float> get_floats(std::string_view key) const;  // array of f32 or f64
  std::vector<int32_t> get_ints(std::string_view key) const;  // array of any integers that fit

  // In the order of the file's table.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // nullptr when there is no such tensor.
  const Tensor* find_tensor(std::string_view name) const;

  // Reads bytes [offset, offset + bytes) of a tensor of this reader. Throws invalid_argument when
  // the range leaves the tensor, corrupt_file when the file has become shorter, io_error.
  void read(const Tensor& tensor, uint64_t offset, void* out, uint64_t bytes) const;
  // Reads bytes of the file as it was opened, wherever they lie. Throws like `read`.
  void read_file(uint64_t offset, void* out, uint64_t bytes) const {
    file_.read(offset, out, bytes);
  }

 private:
  void read_keys(Cursor& cursor, uint64_t count);
  void read_tensors(Cursor& cursor, uint64_t count);
  void place_tensors(uint64_t data_start);
  void check_overlap() const;
  const Value& require(std::string_view key) const;
  template <typename T>
  const T& require_as(std::string_view key, const char* want) const;
  [[noreturn]] void wrong_value(std::string_view key, const Value& value, const char* want) const;
  [[noreturn]] void corrupt(const std::string& message) const;

  File file_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 0;
  Values values_;
  std::vector<Tensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices into tensors_, sorted by name
};

}  // namespace tessera::gguf
