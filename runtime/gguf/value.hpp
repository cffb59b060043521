// One metadata value of a GGUF file: a scalar, a string, or an array of either.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace tessera::gguf {

// Numbers as stored in the file.
enum class ValueType : uint32_t {
  u8 = 0,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

// "u32", "string", ...; "unknown" outside the enumeration.
const char* value_type_name(ValueType type);

template <typename T, typename Variant>
struct IsAlternative : std::false_type {};
template <typename T, typename... Ts>
struct IsAlternative<T, std::variant<Ts...>> : std::disjunction<std::is_same<T, Ts>...> {};

// Holds exactly the type the file has; the `as_` functions convert where no information is lost.
// A value type without sharing: copying copies arrays. An empty array keeps its element type.
class Value {
 public:
  // Scalars in the order of kScalarTypes (value.cpp), then the arrays of the same types.
  using Storage = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                               std::string, uint64_t, int64_t, double, std::vector<uint8_t>,
                               std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                               std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                               std::vector<bool>, std::vector<std::string>, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>>;

  Value() = default;  // u8 0

  // Exactly one of Storage's types: the argument's type decides the type in the file, so an int
  // becomes i32 and a uint32_t u32; there is no conversion to a neighbouring type.
  template <typename T>
  requires IsAlternative<std::remove_cvref_t<T>, Storage>::value Value(
      T&& value)  // NOLINT(google-explicit-constructor): `set(key, 1u)` should read well
      : storage_(std::in_place_type<std::remove_cvref_t<T>>, std::forward<T>(value)) {}
  Value(const char* value) : storage_(std::string(value)) {}       // NOLINT
  Value(std::string_view value) : storage_(std::string(value)) {}  // NOLINT

  ValueType type() const;          // `array` for every array
  ValueType element_type() const;  // of an array its elements' type, of a scalar type()
  bool is_array() const { return type() == ValueType::array; }
  uint64_t size() const;  // elements of an array, 1 for a scalar or string

  // The value when it is exactly a T, else nullptr.
  template <typename T>
  const T* get_if() const {
    return std::get_if<T>(&storage_);
  }
  const Storage& storage() const { return storage_; }

  // Any integer scalar that fits; else nothing. Booleans and floats are not integers.
  std::optional<uint64_t> as_uint() const;
  std::optional<int64_t> as_int() const;
  // f32 or f64.
  std::optional<double> as_float() const;

  bool operator==(const Value&) const = default;

 private:
  Storage storage_;
};

}  // namespace tessera::gguf
