// The layout is described in tests/quality/oracle/golden.py.
#include "tests/quality/golden.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>

#include "backends/error.hpp"

namespace tessera::test {
namespace {

static_assert(std::endian::native == std::endian::little, "golden files are little endian");

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(Status::not_found, path + ": cannot be opened");
  return {std::istreambuf_iterator<char>(in), {}};
}

class Cursor {
 public:
  Cursor(const std::string& path, const std::string& data) : path_(path), data_(data) {}

  void take(void* out, uint64_t bytes) {
    if (bytes > data_.size() - at_) fail(Status::corrupt_file, path_ + ": ends too early");
    if (bytes > 0) std::memcpy(out, data_.data() + at_, bytes);
    at_ += bytes;
  }
  uint32_t number() {
    uint32_t value = 0;
    take(&value, sizeof value);
    return value;
  }
  uint64_t left() const { return data_.size() - at_; }

 private:
  const std::string& path_;
  const std::string& data_;
  uint64_t at_ = 0;
};

uint32_t crc32(const std::string& data) {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) ? 0xedb88320u : 0);
    table[i] = c;
  }
  uint32_t crc = ~0u;
  for (const char byte : data) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

}  // namespace

Golden::Golden(const std::string& path) : path_(path) {
  const std::string data = read_file(path);
  Cursor cursor(path, data);
  std::string magic(8, '\0');
  cursor.take(magic.data(), magic.size());
  if (magic != "TSRGOLD1") fail(Status::corrupt_file, path + ": is no golden file");
  for (uint32_t count = cursor.number(); count > 0; --count) {
    std::string name(std::min<uint64_t>(cursor.number(), cursor.left()), '\0');
    cursor.take(name.data(), name.size());
    const uint32_t type = cursor.number();
    GoldenArray array;
    array.shape.resize(std::min<uint64_t>(cursor.number(), 8));
    uint64_t elements = 1;
    for (uint32_t& size : array.shape) {
      size = cursor.number();
      elements *= size;
      if (elements > cursor.left() / 4) fail(Status::corrupt_file, path + ": " + name);
    }
    if (type == 0) {
      array.ints.resize(elements);
      cursor.take(array.ints.data(), elements * 4);
    } else {
      array.floats.resize(elements);
      cursor.take(array.floats.data(), elements * 4);
    }
    arrays_.emplace(std::move(name), std::move(array));
  }
}

const GoldenArray& Golden::array(const std::string& name) const {
  const auto it = arrays_.find(name);
  if (it == arrays_.end()) fail(Status::not_found, path_ + ": no array " + name);
  return it->second;
}

const std::vector<int32_t>& Golden::ints(const std::string& name) const {
  const GoldenArray& found = array(name);
  if (found.ints.empty()) fail(Status::not_found, path_ + ": no numbers int32 in " + name);
  return found.ints;
}

const std::vector<float>& Golden::floats(const std::string& name) const {
  const GoldenArray& found = array(name);
  if (found.floats.empty()) fail(Status::not_found, path_ + ": no numbers float32 in " + name);
  return found.floats;
}

bool Golden::is_of(const std::string& path) const {
  const std::string data = read_file(path);
  return data.size() == static_cast<uint32_t>(ints("model.bytes")[0]) &&
         crc32(data) == static_cast<uint32_t>(ints("model.crc32")[0]);
}

}  // namespace tessera::test
