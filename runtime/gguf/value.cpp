#include "runtime/gguf/value.hpp"

#include <array>
#include <limits>

namespace tessera::gguf {
namespace {

// Value::Storage holds these, then arrays of these: alternative i and i + 12 share an entry.
constexpr std::array kScalarTypes = {
    ValueType::u8,     ValueType::i8,  ValueType::u16, ValueType::i16,
    ValueType::u32,    ValueType::i32, ValueType::f32, ValueType::boolean,
    ValueType::string, ValueType::u64, ValueType::i64, ValueType::f64,
};
static_assert(std::variant_size_v<Value::Storage> == 2 * kScalarTypes.size());

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

// The integer `value` as a To when it is an integer and fits.
template <typename To>
std::optional<To> to_integer(const Value::Storage& storage) {
  return std::visit(
      [](const auto& value) -> std::optional<To> {
        using From = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_integral_v<From> && !std::is_same_v<From, bool>) {
          if (std::in_range<To>(value)) return static_cast<To>(value);
        }
        return std::nullopt;
      },
      storage);
}

}  // namespace

const char* value_type_name(ValueType type) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<uint32_t>(type);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

ValueType Value::type() const {
  const size_t index = storage_.index();
  return index < kScalarTypes.size() ? kScalarTypes[index] : ValueType::array;
}

ValueType Value::element_type() const {
  return kScalarTypes[storage_.index() % kScalarTypes.size()];
}

uint64_t Value::size() const {
  return std::visit(
      [](const auto& value) -> uint64_t {
        if constexpr (IsVector<std::remove_cvref_t<decltype(value)>>::value) {
          return value.size();
        } else {
          return 1;
        }
      },
      storage_);
}

std::optional<uint64_t> Value::as_uint() const {
  return to_integer<uint64_t>(storage_);
}

std::optional<int64_t> Value::as_int() const {
  return to_integer<int64_t>(storage_);
}

std::optional<double> Value::as_float() const {
  if (const float* value = get_if<float>()) return *value;
  if (const double* value = get_if<double>()) return *value;
  return std::nullopt;
}

}  // namespace tessera::gguf
