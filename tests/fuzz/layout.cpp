#include "tests/fuzz/layout.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/gguf/value.hpp"

namespace tessera::test {
namespace {

using gguf::ValueType;

constexpr uint64_t kListedElements = 4;  // of an array; the rest would drown the other fields

uint64_t bytes_of(ValueType type) {
  switch (type) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean:
      return 1;
    case ValueType::u16:
    case ValueType::i16:
      return 2;
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64:
      return 8;
    default:
      return 4;
  }
}

class Scanner {
 public:
  explicit Scanner(const std::string& file) : file_(file) {}

  Layout scan() {
    at_ = 4;
    take(FieldKind::version, 4);
    const uint64_t tensors = take(FieldKind::length, 8);
    const uint64_t keys = take(FieldKind::length, 8);
    for (uint64_t i = 0; i < keys; ++i) {
      text(true);
      value();
    }
    for (uint64_t i = 0; i < tensors; ++i) {
      text(true);
      const uint64_t rank = take(FieldKind::dimension, 4);
      for (uint64_t d = 0; d < rank; ++d) take(FieldKind::dimension, 8);
      take(FieldKind::type, 4);
      take(FieldKind::offset, 8);
    }
    layout_.header_bytes = at_;
    return std::move(layout_);
  }

 private:
  // Reads a little-endian number, listing it as a field when wanted.
  uint64_t take(FieldKind kind, uint64_t bytes, bool list = true) {
    uint64_t number = 0;
    std::memcpy(&number, file_.data() + at_, bytes);
    if (list) layout_.fields.push_back({kind, at_, bytes});
    at_ += bytes;
    return number;
  }

  void text(bool list) {
    const uint64_t length = take(FieldKind::length, 8, list);
    if (list && length > 0) layout_.fields.push_back({FieldKind::text, at_, length});
    at_ += length;
  }

  void element(ValueType type, bool list) {
    if (type == ValueType::string) {
      text(list);
    } else {
      take(FieldKind::value, bytes_of(type), list);
    }
  }

  void value() {
    auto type = static_cast<ValueType>(take(FieldKind::type, 4));
    uint64_t count = 1;
    if (type == ValueType::array) {
      type = static_cast<ValueType>(take(FieldKind::type, 4));
      count = take(FieldKind::length, 8);
    }
    for (uint64_t i = 0; i < count; ++i) element(type, i < kListedElements);
  }

  const std::string& file_;
  uint64_t at_ = 0;
  Layout layout_;
};

}  // namespace

Layout find_fields(const std::string& file) {
  return Scanner(file).scan();
}

}  // namespace tessera::test
