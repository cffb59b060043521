#include "samples/rag/text_file.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

namespace rag {
namespace {

// Length of the UTF-8 sequence at `at`, or 0 when it is not valid: table 3-7 of the Unicode
// standard, which excludes overlong forms, surrogates and values above U+10FFFF.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(at), second = byte(at + 1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(at + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
    return continues(at + 1) && continues(at + 2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
    return continues(at + 1) && continues(at + 2) && continues(at + 3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::uint64_t content_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::int64_t modification_ns(const std::filesystem::path& path, std::error_code& error) {
  const auto time = std::filesystem::last_write_time(path, error).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

TextFile read_text_file(const std::filesystem::path& path) {
  TextFile file;
  const auto skip = [&](std::string reason) {
    file.text.clear();
    file.skipped = std::move(reason);
    return file;
  };
  std::error_code error;
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error) return skip("cannot be read: " + error.message());
  file.modified_ns = modification_ns(path, error);
  if (error) return skip("cannot be read: " + error.message());
  if (size == 0) return skip("empty");
  if (size > kMaxFileBytes)
    return skip("too large: " + std::to_string(size) + " bytes, at most " +
                std::to_string(kMaxFileBytes));

  std::ifstream stream(path, std::ios::binary);
  if (!stream) return skip(std::string("cannot be read: ") + std::strerror(errno));
  file.text.resize(size);
  stream.read(file.text.data(), static_cast<std::streamsize>(size));
  if (stream.bad()) return skip("cannot be read to its end");
  file.text.resize(static_cast<std::size_t>(stream.gcount()));  // it may have shrunk meanwhile

  if (const std::size_t at = file.text.find('\0'); at != std::string::npos)
    return skip("not text: zero byte at offset " + std::to_string(at));
  if (const std::size_t at = find_invalid_utf8(file.text); at != std::string::npos)
    return skip("not UTF-8: invalid byte at offset " + std::to_string(at));
  if (file.text.find_first_not_of(" \t\r\n\f\v") == std::string::npos)
    return skip("empty: white space only");
  file.hash = content_hash(file.text);
  return file;
}

}  // namespace rag
