// Bytes of the messages between the `remote` backend and its worker.
//
// A value is its scalars in order, little-endian as both ends are one machine: numbers as they lie
// in memory, an enum as 32 bits, bool as one byte 0 or 1, a vector or string as a 64-bit count and
// its elements, a variant as one byte (the alternative) and its value, a Weight as its 64-bit id, a
// struct as its fields (wire_fields.hpp). So equal values have equal bytes, and a decoder accepts
// nothing that an encoder would not write.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace tessera {
class Weight;
}

namespace tessera::remote {

using Bytes = std::vector<uint8_t>;

// How many values an enum has, counted from 0. Every enum that crosses has its line in
// wire_fields.hpp; a value beyond is refused by both ends.
template <class E>
inline constexpr uint32_t kEnumCount = 0;

// The recursive members below are [[gnu::noinline]]: inlined into one another they make the
// compiler slow, with sanitizers very slow, and gain nothing here.

template <class T>
concept Number = std::is_arithmetic_v<T> && !std::same_as<T, bool>;

template <class T>
concept Enum = std::is_enum_v<T>;

// Appends values to a buffer. Throws invalid_argument for an enum value that has no name.
class Encoder {
 public:
  // The id of a weight; throws for one that the other end does not know.
  using WeightIds = std::function<uint64_t(const Weight*)>;

  // Without `weights` a value that holds a weight is refused with `internal`.
  explicit Encoder(WeightIds weights = {}) : weights_(std::move(weights)) {}

  template <class... T>
  void operator()(const T&... values) {
    (put(values), ...);
  }

  Bytes take() { return std::move(bytes_); }

 private:
  void append(const void* data, size_t size);
  void put_enum(uint32_t value, uint32_t count);
  void put(bool value);
  void put(const std::string& text);
  void put(const Weight* weight);

  template <Number T>
  void put(const T& value) {
    append(&value, sizeof value);
  }
  template <Enum T>
  void put(const T& value) {
    static_assert(kEnumCount<T> > 0, "give this enum its line in wire_fields.hpp");
    put_enum(static_cast<uint32_t>(value), kEnumCount<T>);
  }
  template <class T>
  [[gnu::noinline]] void put(const std::vector<T>& values) {
    put(static_cast<uint64_t>(values.size()));
    if constexpr (Number<T>) {
      append(values.data(), values.size() * sizeof(T));
    } else {
      for (const T& value : values) put(value);
    }
  }
  template <class... T>
  [[gnu::noinline]] void put(const std::variant<T...>& value) {
    static_assert(sizeof...(T) < 256);
    put(static_cast<uint8_t>(value.index()));
    std::visit([this](const auto& alternative) { put(alternative); }, value);
  }
  template <class T>
  [[gnu::noinline]] void put(const T& value) {
    fields(*this, value);
  }

  WeightIds weights_;
  Bytes bytes_;
};

// Reads values back. Every count is checked against the bytes that are left before anything is
// allocated. Throws `internal` for bytes that no encoder writes: too few, too many, an unknown enum
// value or alternative. The bytes outlive the decoder.
class Decoder {
 public:
  // The weight of an id; throws for an unknown one.
  using Weights = std::function<const Weight*(uint64_t)>;

  // `name` is for messages. Without `weights` a value that holds a weight is refused.
  Decoder(const char* name, std::span<const uint8_t> bytes, Weights weights = {})
      : name_(name), bytes_(bytes), weights_(std::move(weights)) {}

  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }

  // Throws unless every byte has been read.
  void finish() const;

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  const uint8_t* next(uint64_t size);
  uint64_t next_count(uint64_t least_bytes);
  uint32_t next_enum(uint32_t count);
  void get(bool& value);
  void get(std::string& text);
  void get(const Weight*& weight);

  template <Number T>
  void get(T& value) {
    std::memcpy(&value, next(sizeof value), sizeof value);
  }
  template <Enum T>
  void get(T& value) {
    static_assert(kEnumCount<T> > 0, "give this enum its line in wire_fields.hpp");
    value = static_cast<T>(next_enum(kEnumCount<T>));
  }
  template <class T>
  [[gnu::noinline]] void get(std::vector<T>& values) {
    values.clear();
    if constexpr (Number<T>) {
      const uint64_t count = next_count(sizeof(T));
      values.resize(count);
      if (count > 0) std::memcpy(values.data(), next(count * sizeof(T)), count * sizeof(T));
    } else {
      // Grows with what is really there, so a wrong count costs no memory.
      for (uint64_t left = next_count(1); left > 0; --left) get(values.emplace_back());
    }
  }
  template <class... T>
  [[gnu::noinline]] void get(std::variant<T...>& value) {
    uint8_t index = 0;
    get(index);
    if (index >= sizeof...(T)) refuse("alternative " + std::to_string(index) + " is unknown");
    get_alternative(value, index, std::index_sequence_for<T...>());
  }
  template <class Variant, size_t... I>
  void get_alternative(Variant& value, uint8_t index, std::index_sequence<I...>) {
    ((I == index ? get(value.template emplace<I>()) : void()), ...);
  }
  template <class T>
  [[gnu::noinline]] void get(T& value) {
    fields(*this, value);
  }

  const char* name_;
  std::span<const uint8_t> bytes_;
  size_t offset_ = 0;
  Weights weights_;
};

// The bytes of one value.
template <class T>
Bytes encode(const T& value, Encoder::WeightIds weights = {}) {
  Encoder encoder(std::move(weights));
  encoder(value);
  return encoder.take();
}

// The value that all of `bytes` hold.
template <class T>
T decode(const char* name, std::span<const uint8_t> bytes, Decoder::Weights weights = {}) {
  T value{};
  Decoder decoder(name, bytes, std::move(weights));
  decoder(value);
  decoder.finish();
  return value;
}

}  // namespace tessera::remote
