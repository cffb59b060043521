// Builds GGUF files byte by byte, right or wrong, without the writer under test.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <type_traits>

namespace tessera::test {

class Raw {
 public:
  template <typename T>
  requires std::is_arithmetic_v<T> Raw& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  Raw& u32(uint32_t value) { return put(value); }
  Raw& u64(uint64_t value) { return put(value); }
  Raw& text(const std::string& value) { return u64(value.size()).append(value); }
  Raw& append(const std::string& bytes) {
    bytes_ += bytes;
    return *this;
  }
  Raw& zeros(size_t count) { return append(std::string(count, '\0')); }
  Raw& pad(size_t alignment = 32) {
    while (bytes_.size() % alignment != 0) bytes_ += '\0';
    return *this;
  }

  // "GGUF", version, counts.
  static Raw header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return Raw().append("GGUF").u32(version).u64(tensors).u64(keys);
  }
  // A key with its type; the value follows.
  Raw& key(const std::string& name, uint32_t type) { return text(name).u32(type); }
  // A two-dimensional entry of the tensor table.
  Raw& tensor(const std::string& name, uint64_t columns, uint64_t rows, uint32_t type,
              uint64_t offset) {
    return text(name).u32(2).u64(columns).u64(rows).u32(type).u64(offset);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

inline void save(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
}

inline std::string load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace tessera::test
