// Reads a file for the library: text as it is, or the reason why it is left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace rag {

inline constexpr std::uint64_t kMaxFileBytes = 64u << 20;

struct TextFile {
  std::string text;            // UTF-8, byte for byte as in the file
  std::string skipped;         // why the file cannot be indexed; empty when it can
  std::int64_t modified_ns{};  // modification_ns
  std::uint64_t hash{};        // of text
};

// Last modification of a file, nanoseconds of the file clock.
std::int64_t modification_ns(const std::filesystem::path& path, std::error_code& error);

// Never throws for what is in the file or for a file that cannot be read: `skipped` says so.
TextFile read_text_file(const std::filesystem::path& path);

// Offset of the first byte that is not valid UTF-8 (RFC 3629), or npos.
std::size_t find_invalid_utf8(std::string_view text);

// FNV-1a, 64 bits: tells a changed file from an unchanged one, nothing more.
std::uint64_t content_hash(std::string_view text);

}  // namespace rag
