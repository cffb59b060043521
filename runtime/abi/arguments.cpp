#include "runtime/abi/arguments.hpp"

#include <cmath>

#include "runtime/abi/status.hpp"
#include "runtime/text/utf8.hpp"

namespace tessera::abi {

void invalid(const std::string& message) {
  fail(Status::invalid_argument, message);
}

void require(const void* pointer, const char* name) {
  if (!pointer) invalid(std::string(name) + " is NULL");
}

std::string_view text_argument(const char* data, uint64_t length, const char* name, bool optional) {
  if (!data) {
    if (length == 0 || (optional && length == TSR_NUL_TERMINATED)) return {};
    invalid(std::string(name) + " is NULL, its length " + std::to_string(length));
  }
  if (length == TSR_NUL_TERMINATED) length = std::strlen(data);
  if (length > kMaxTextBytes) {
    invalid(std::string(name) + " has a length of " + std::to_string(length) + " bytes; at most " +
            std::to_string(kMaxTextBytes) + ", or TSR_NUL_TERMINATED");
  }
  const std::string_view text(data, length);
  const size_t bad = text::utf8_first_invalid(text);
  if (bad != std::string_view::npos) {
    invalid(std::string(name) + " is not valid UTF-8 at byte " + std::to_string(bad));
  }
  return text;
}

int64_t timeout_argument(int64_t timeout_ms) {
  constexpr int64_t kYear = int64_t{1000} * 60 * 60 * 24 * 365;
  if (timeout_ms < TSR_WAIT_FOREVER) {
    invalid("timeout_ms is " + std::to_string(timeout_ms) +
            ", must be TSR_WAIT_FOREVER, 0 or more");
  }
  return timeout_ms > kYear ? TSR_WAIT_FOREVER : timeout_ms;
}

void check_tokens(std::span<const int32_t> tokens, int32_t vocabulary) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocabulary) continue;
    invalid("tokens[" + std::to_string(i) + "] is " + std::to_string(tokens[i]) +
            ", must be 0 to " + std::to_string(vocabulary - 1));
  }
}

void check_flags(uint64_t flags, uint64_t known, const char* name) {
  if (flags & ~known) {
    invalid(std::string(name) + " has unknown bits " + std::to_string(flags & ~known) +
            "; known are " + std::to_string(known));
  }
}

float number_argument(float value, float low, float high, const char* name) {
  if (!std::isfinite(value) || value < low || value > high) {
    invalid(std::string(name) + " is " + std::to_string(value) + ", must be " +
            std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

uint32_t check_struct(const void* structure, uint32_t known, uint32_t version_1, bool input,
                      const char* name) {
  uint32_t size = 0;
  std::memcpy(&size, structure, sizeof(size));
  if (size < version_1) {
    invalid(std::string(name) + "->struct_size is " + std::to_string(size) + ", must be at least " +
            std::to_string(version_1) + "; call its _init first");
  }
  // More than any release will have: an uninitialised struct, whose tail must not be read.
  if (size > 4096) {
    invalid(std::string(name) + "->struct_size is " + std::to_string(size) +
            "; call its _init first");
  }
  if (input) {
    const auto* bytes = static_cast<const unsigned char*>(structure);
    for (uint32_t i = known; i < size; ++i) {
      if (bytes[i] != 0) {
        fail(Status::unsupported, std::string(name) + " uses a field at byte " + std::to_string(i) +
                                      " that this release does not know; it " + "knows " +
                                      std::to_string(known) + " bytes");
      }
    }
  }
  return size;
}

tsr_status init_struct(void* structure, uint32_t struct_size, uint32_t version_1,
                       const char* name) noexcept {
  return guarded([&] {
    require(structure, name);
    if (struct_size < version_1 || struct_size > 4096) {
      invalid("struct_size is " + std::to_string(struct_size) + "; pass sizeof(tsr_" + name + ")");
    }
    std::memset(structure, 0, struct_size);
    std::memcpy(structure, &struct_size, sizeof(struct_size));
  });
}

void copy_text(std::string_view text, std::span<char> out) {
  std::string_view cut = text.substr(0, out.size() - 1);
  cut = cut.substr(0, text::utf8_complete_prefix(cut));
  std::ranges::fill(out, '\0');
  std::ranges::copy(cut, out.begin());
}

}  // namespace tessera::abi
