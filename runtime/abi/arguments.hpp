// Checks of what callers pass in: structs of any release, text, out pointers, buffers.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "backends/error.hpp"
#include "include/tessera/tessera.h"

namespace tessera::abi {

// Longest text or array a call takes.
inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxTokens = uint64_t{1} << 28;

[[noreturn]] void invalid(const std::string& message);
void require(const void* pointer, const char* name);

// The text of (data, length). Throws for NULL, a huge length, or invalid UTF-8 with its offset.
// NULL is the empty text where length is 0 or TSR_NUL_TERMINATED and `optional` is set.
std::string_view text_argument(const char* data, uint64_t length, const char* name,
                               bool optional = false);

// Milliseconds, or TSR_WAIT_FOREVER, which is what more than a year becomes.
int64_t timeout_argument(int64_t timeout_ms);

// Every id in [0, vocabulary).
void check_tokens(std::span<const int32_t> tokens, int32_t vocabulary);

void check_flags(uint64_t flags, uint64_t known, const char* name);

// A finite number in [low, high].
float number_argument(float value, float low, float high, const char* name);

// struct_size of a caller's struct, checked against version 1 and, with `input`, the unknown tail.
uint32_t check_struct(const void* structure, uint32_t known, uint32_t version_1, bool input,
                      const char* name);

// A copy of a caller's struct in this release's shape; all zero where `in` is NULL.
template <typename T>
T read_struct(const T* in, uint32_t version_1, const char* name) {
  T out{};
  if (in) {
    const uint32_t size = check_struct(in, sizeof(T), version_1, true, name);
    std::memcpy(&out, in, std::min<size_t>(size, sizeof(T)));
  }
  out.struct_size = sizeof(T);
  return out;
}

// Fills a caller's struct up to the smaller of its size and this release's.
template <typename T>
void write_struct(T* out, T value, uint32_t version_1, const char* name) {
  require(out, name);
  const uint32_t size = check_struct(out, sizeof(T), version_1, false, name);
  value.struct_size = size;
  std::memcpy(out, &value, std::min<size_t>(size, sizeof(T)));
}

// Zeroes a struct of the caller's size and notes the size in it.
tsr_status init_struct(void* structure, uint32_t struct_size, uint32_t version_1,
                       const char* name) noexcept;

// The two-call protocol: always writes the needed count, copies when there is room.
template <typename T>
void write_array(std::span<const T> values, T* out, uint64_t capacity, uint64_t* count,
                 const char* out_name, const char* count_name) {
  require(count, count_name);
  *count = values.size();
  if (capacity == 0) return;
  require(out, out_name);
  if (capacity < values.size()) {
    fail(Status::buffer_too_small, std::string(out_name) + " needs room for " +
                                       std::to_string(values.size()) + ", capacity is " +
                                       std::to_string(capacity));
  }
  std::copy(values.begin(), values.end(), out);
}

// Copies text into a fixed array of an output struct, cut at a character, NUL-terminated.
void copy_text(std::string_view text, std::span<char> out);

}  // namespace tessera::abi
