#include "runtime/gguf/reader.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "backends/error.hpp"
#include "runtime/gguf/cursor.hpp"
#include "runtime/gguf/format.hpp"

namespace tessera::gguf {
namespace {

// Smallest entries: what bounds the counts in the header before anything is allocated.
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;             // name, type, one byte
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, rank, length, type, offset

constexpr uint64_t kMaxString = std::numeric_limits<uint64_t>::max();  // the file bounds it

bool read_bool(Cursor& cursor) {
  const auto byte = cursor.number<uint8_t>();
  if (byte > 1) {
    cursor.fail(Status::corrupt_file,
                "a bool is " + std::to_string(byte) + "; it must be stored as 0 or 1");
  }
  return byte != 0;
}

template <typename T>
Value read_array(Cursor& cursor, uint64_t count) {
  std::vector<T> items;
  if constexpr (std::is_same_v<T, std::string>) {
    cursor.expect(count, sizeof(uint64_t), "an array of strings");
    items.reserve(count);
    for (uint64_t i = 0; i < count; ++i) items.push_back(cursor.string(kMaxString, "a string"));
  } else if constexpr (std::is_same_v<T, bool>) {
    cursor.expect(count, 1, "an array of bools");
    items.reserve(count);
    for (uint64_t i = 0; i < count; ++i) items.push_back(read_bool(cursor));
  } else {
    cursor.expect(count, sizeof(T), "an array");
    items.resize(count);
    cursor.read(items.data(), count * sizeof(T));
  }
  return Value(std::move(items));
}

// Calls `read` with a value of the C++ type of `type`; unknown types and arrays are refused.
template <typename Read>
Value dispatch(Cursor& cursor, uint32_t type, const Read& read) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::u8:
      return read(uint8_t{});
    case ValueType::i8:
      return read(int8_t{});
    case ValueType::u16:
      return read(uint16_t{});
    case ValueType::i16:
      return read(int16_t{});
    case ValueType::u32:
      return read(uint32_t{});
    case ValueType::i32:
      return read(int32_t{});
    case ValueType::f32:
      return read(float{});
    case ValueType::boolean:
      return read(bool{});
    case ValueType::string:
      return read(std::string{});
    case ValueType::u64:
      return read(uint64_t{});
    case ValueType::i64:
      return read(int64_t{});
    case ValueType::f64:
      return read(double{});
    case ValueType::array:
      cursor.fail(Status::unsupported,
                  "is an array of arrays; only arrays of numbers, bools or strings are supported");
  }
  cursor.fail(Status::corrupt_file,
              "has value type " + std::to_string(type) + "; types 0 to 12 exist");
}

Value read_value(Cursor& cursor) {
  const auto type = cursor.number<uint32_t>();
  if (type == static_cast<uint32_t>(ValueType::array)) {
    const auto element = cursor.number<uint32_t>();
    const auto count = cursor.number<uint64_t>();
    return dispatch(cursor, element, [&](const auto& t) {
      return read_array<std::decay_t<decltype(t)>>(cursor, count);
    });
  }
  return dispatch(cursor, type, [&](const auto& t) -> Value {
    using T = std::decay_t<decltype(t)>;
    if constexpr (std::is_same_v<T, std::string>) {
      return cursor.string(kMaxString, "a string");
    } else if constexpr (std::is_same_v<T, bool>) {
      return read_bool(cursor);
    } else {
      return cursor.number<T>();
    }
  });
}

// Magic and version; says what else the file seems to be.
uint32_t read_version(Cursor& cursor) {
  if (cursor.remaining() == 0) cursor.fail(Status::corrupt_file, "the file is empty");
  if (cursor.number<uint32_t>() != kMagic) {
    cursor.fail(Status::corrupt_file, "not a GGUF file: it does not begin with \"GGUF\"");
  }
  const auto version = cursor.number<uint32_t>();
  if (version >= kMinVersion && version <= kMaxVersion) return version;
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= kMaxVersion) {
    cursor.fail(Status::unsupported,
                "a big-endian GGUF file; only little-endian files are supported");
  }
  cursor.fail(Status::unsupported, "GGUF version " + std::to_string(version) +
                                       "; versions 2 and 3 are supported, convert the model again");
}

}  // namespace

Reader::Reader(const std::string& path) : file_(path) {
  Cursor cursor(file_, std::min(file_.bytes(), kMaxHeaderBytes));
  version_ = read_version(cursor);
  const auto tensor_count = cursor.number<uint64_t>();
  const auto key_count = cursor.number<uint64_t>();
  if (key_count > kMaxKeys || tensor_count > kMaxTensors) {
    cursor.fail(Status::corrupt_file, std::to_string(key_count) + " keys and " +
                                          std::to_string(tensor_count) + " tensors; at most " +
                                          std::to_string(kMaxKeys) + " and " +
                                          std::to_string(kMaxTensors) + " are allowed");
  }
  cursor.expect(key_count, kMinKeyBytes, "the table of keys");
  cursor.expect(tensor_count, kMinTensorBytes, "the table of tensors");

  read_keys(cursor, key_count);
  if (const uint64_t parts = get_uint("split.count", 0); parts > 1) {
    fail(Status::unsupported, path + ": key 'split.count' is " + std::to_string(parts) +
                                  ": one part of a model; merge its parts into one file");
  }
  alignment_ = get_uint(kAlignmentKey, kDefaultAlignment);
  if (!valid_alignment(alignment_)) {
    corrupt("key 'general.alignment' is " + std::to_string(alignment_) +
            "; it must be a power of two up to 2^30");
  }
  read_tensors(cursor, tensor_count);
  place_tensors(align_up(cursor.position(), alignment_));
  check_overlap();
}

void Reader::read_keys(Cursor& cursor, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    cursor.set_context("key number " + std::to_string(i));
    std::string key = cursor.string(kMaxKeyBytes, "its name");
    if (key.empty()) cursor.fail(Status::corrupt_file, "has an empty name");
    cursor.set_context("key " + quoted(key));
    Value value = read_value(cursor);
    if (!values_.emplace(std::move(key), std::move(value)).second) {
      cursor.fail(Status::corrupt_file, "occurs twice; keys must be unique");
    }
  }
}

void Reader::read_tensors(Cursor& cursor, uint64_t count) {
  cursor.set_context("tensor table");
  cursor.expect(count, kMinTensorBytes, "the table of tensors");
  tensors_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    cursor.set_context("tensor number " + std::to_string(i));
    Tensor tensor = {};
    tensor.name = cursor.string(kMaxTensorNameBytes, "its name");
    if (tensor.name.empty()) cursor.fail(Status::corrupt_file, "has an empty name");
    cursor.set_context("tensor " + quoted(tensor.name));

    const auto rank = cursor.number<uint32_t>();
    if (rank < 1 || rank > kMaxDimensions) {
      cursor.fail(Status::corrupt_file,
                  "has " + std::to_string(rank) + " dimensions; 1 to 4 are allowed");
    }
    for (uint32_t d = 0; d < rank; ++d) tensor.shape.push_back(cursor.number<uint64_t>());

    const auto id = cursor.number<uint32_t>();
    const std::optional<DType> type = type_from_id(id);
    if (!type) {
      const std::string_view name = type_id_name(id);
      cursor.fail(Status::unsupported,
                  "has type " +
                      (name.empty() ? "number " + std::to_string(id) : std::string(name)) +
                      ", which is not supported; supported are " + supported_types());
    }
    tensor.type = *type;
    const std::string wrong = check_shape(tensor.type, tensor.shape, tensor.bytes);
    if (!wrong.empty()) cursor.fail(Status::corrupt_file, wrong);

    tensor.offset = cursor.number<uint64_t>();  // from the data section, place_tensors moves it
    tensors_.push_back(std::move(tensor));
  }

  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](uint32_t a, uint32_t b) { return tensors_[a].name < tensors_[b].name; });
  for (size_t i = 1; i < by_name_.size(); ++i) {
    const std::string& name = tensors_[by_name_[i]].name;
    if (name == tensors_[by_name_[i - 1]].name) {
      corrupt("tensor " + quoted(name) + " occurs twice; tensor names must be unique");
    }
  }
}

void Reader::place_tensors(uint64_t data_start) {
  // Without tensors a file may end before the padding.
  const uint64_t data_bytes = file_.bytes() > data_start ? file_.bytes() - data_start : 0;
  for (Tensor& tensor : tensors_) {
    if (tensor.offset % alignment_ != 0) {
      corrupt("tensor " + quoted(tensor.name) + " has offset " + std::to_string(tensor.offset) +
              ", which is not a multiple of the alignment " + std::to_string(alignment_));
    }
    if (tensor.bytes > data_bytes || tensor.offset > data_bytes - tensor.bytes) {
      corrupt("tensor " + quoted(tensor.name) + " has " + std::to_string(tensor.bytes) +
              " bytes at offset " + std::to_string(tensor.offset) + ", but the file has only " +
              std::to_string(data_bytes) + " bytes of data; it is truncated or corrupt");
    }
    tensor.offset += data_start;
  }
}

void Reader::check_overlap() const {
  std::vector<const Tensor*> order;
  order.reserve(tensors_.size());
  for (const Tensor& tensor : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const Tensor* a, const Tensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes) {
      corrupt("tensors " + quoted(order[i - 1]->name) + " and " + quoted(order[i]->name) +
              " overlap; each must have its own bytes");
    }
  }
}

const Value* Reader::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const Tensor* Reader::find_tensor(std::string_view name) const {
  const auto it = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](uint32_t index, std::string_view wanted) { return tensors_[index].name < wanted; });
  return it != by_name_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
}

void Reader::read(const Tensor& tensor, uint64_t offset, void* out, uint64_t bytes) const {
  if (offset > tensor.bytes || bytes > tensor.bytes - offset) {
    fail(Status::invalid_argument, path() + ": tensor " + quoted(tensor.name) + ": bytes " +
                                       std::to_string(offset) + " + " + std::to_string(bytes) +
                                       " leave its " + std::to_string(tensor.bytes));
  }
  file_.read(tensor.offset + offset, out, bytes);
}

void Reader::corrupt(const std::string& message) const {
  fail(Status::corrupt_file, path() + ": " + message);
}

}  // namespace tessera::gguf
