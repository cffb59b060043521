// Typed access to a reader's keys.
#include <limits>
#include <utility>

#include "backends/error.hpp"
#include "runtime/gguf/format.hpp"
#include "runtime/gguf/reader.hpp"

namespace tessera::gguf {
namespace {

template <typename T>
struct ElementOf {
  using type = void;
};
template <typename T>
struct ElementOf<std::vector<T>> {
  using type = T;
};

}  // namespace

const Value& Reader::require(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) {
    corrupt("key " + quoted(key) + " is missing; the model cannot be used without it");
  }
  return *value;
}

template <typename T>
const T& Reader::require_as(std::string_view key, const char* want) const {
  const Value& value = require(key);
  if (const T* held = value.get_if<T>()) return *held;
  wrong_value(key, value, want);
}

void Reader::wrong_value(std::string_view key, const Value& value, const char* want) const {
  std::string have = value_type_name(value.element_type());
  if (value.is_array()) have = "an array of " + have;
  if (const auto number = value.as_int()) have += " " + std::to_string(*number);
  corrupt("key " + quoted(key) + " is " + have + "; it must be " + want);
}

uint64_t Reader::get_uint(std::string_view key) const {
  const Value& value = require(key);
  if (const auto number = value.as_uint()) return *number;
  wrong_value(key, value, "an integer of at least 0");
}

uint64_t Reader::get_uint(std::string_view key, uint64_t absent) const {
  return find(key) == nullptr ? absent : get_uint(key);
}

double Reader::get_float(std::string_view key) const {
  const Value& value = require(key);
  if (const auto number = value.as_float()) return *number;
  wrong_value(key, value, "f32 or f64");
}

double Reader::get_float(std::string_view key, double absent) const {
  return find(key) == nullptr ? absent : get_float(key);
}

bool Reader::get_bool(std::string_view key) const {
  return require_as<bool>(key, "a bool");
}

bool Reader::get_bool(std::string_view key, bool absent) const {
  return find(key) == nullptr ? absent : get_bool(key);
}

std::string_view Reader::get_string(std::string_view key) const {
  return require_as<std::string>(key, "a string");
}

std::string_view Reader::get_string(std::string_view key, std::string_view absent) const {
  return find(key) == nullptr ? absent : get_string(key);
}

const std::vector<std::string>& Reader::get_strings(std::string_view key) const {
  return require_as<std::vector<std::string>>(key, "an array of strings");
}

std::vector<float> Reader::get_floats(std::string_view key) const {
  const Value& value = require(key);
  if (const auto* floats = value.get_if<std::vector<float>>()) return *floats;
  if (const auto* doubles = value.get_if<std::vector<double>>()) {
    return std::vector<float>(doubles->begin(), doubles->end());
  }
  wrong_value(key, value, "an array of f32 or f64");
}

std::vector<int32_t> Reader::get_ints(std::string_view key) const {
  const Value& value = require(key);
  return std::visit(
      [&](const auto& items) -> std::vector<int32_t> {
        using Element = typename ElementOf<std::remove_cvref_t<decltype(items)>>::type;
        if constexpr (std::is_integral_v<Element> && !std::is_same_v<Element, bool>) {
          std::vector<int32_t> out;
          out.reserve(items.size());
          for (const Element item : items) {
            if (!std::in_range<int32_t>(item)) {
              corrupt("key " + quoted(key) + " has element " + std::to_string(item) +
                      "; elements must fit in 32 bits, signed");
            }
            out.push_back(static_cast<int32_t>(item));
          }
          return out;
        } else {
          wrong_value(key, value, "an array of integers");
        }
      },
      value.storage());
}

}  // namespace tessera::gguf
