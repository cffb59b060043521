#include "runtime/kv/chunk_folder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <utility>

namespace tessera::kv {
namespace {

constexpr std::array<std::string_view, 3> kKinds = {"anchor", "primer", "chunk"};
constexpr std::string_view kEnding = ".tsrkv";

bool parse_hex(std::string_view digits, uint64_t& out) {
  const auto lower = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return std::ranges::all_of(digits, lower) &&
         std::from_chars(digits.data(), digits.data() + digits.size(), out, 16).ec == std::errc();
}

// What the name says; false where it is none of ours.
bool parse_name(std::string_view name, FolderEntry& entry) {
  const auto kind = std::ranges::find_if(kKinds, [&](std::string_view k) {
    return name.starts_with(k) && name.substr(k.size()).starts_with('-');
  });
  if (kind == kKinds.end() || !name.ends_with(kEnding)) return false;
  const std::string_view whole = name;
  name.remove_prefix(kind->size() + 1);
  name.remove_suffix(kEnding.size());
  if (name.size() < 34 || name.size() > 44 || name[32] != '-') return false;
  entry.kind = static_cast<CanonicalKind>(kind - kKinds.begin());
  if (!parse_hex(name.substr(0, 16), entry.identity.high) ||
      !parse_hex(name.substr(16, 16), entry.identity.low)) {
    return false;
  }
  name.remove_prefix(33);
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), entry.tokens);
  return error == std::errc() && whole == file_name(entry.kind, entry.identity, entry.tokens);
}

// What is lost with the file, a byte: its tokens have to be computed again, the sooner the later it
// was used.
double worth(const FolderEntry& entry, int64_t now) {
  const double age = static_cast<double>(std::max<int64_t>(now - entry.last_use, 0)) * 1e-9 + 1;
  const double bytes = static_cast<double>(std::max<uint64_t>(entry.bytes, 1));
  return static_cast<double>(entry.tokens) / bytes / age;
}

}  // namespace

std::span<uint8_t> FileBuffer::resize(uint64_t bytes) {
  if (bytes > capacity_) {
    data_.reset();
    size_ = capacity_ = 0;
    data_ = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    capacity_ = bytes;
  }
  size_ = bytes;
  return this->bytes();
}

std::string file_name(CanonicalKind kind, const Identity& identity, uint64_t tokens) {
  std::array<char, 80> name;
  std::snprintf(
      name.data(), name.size(), "%s-%016llx%016llx-%llu.tsrkv",
      kKinds[static_cast<size_t>(kind)].data(), static_cast<unsigned long long>(identity.high),
      static_cast<unsigned long long>(identity.low), static_cast<unsigned long long>(tokens));
  return name.data();
}

ChunkFolder::ChunkFolder(std::string path, uint64_t budget)
    : files_(std::move(path)), budget_(budget) {
  list();
}

Loaded ChunkFolder::load(const ChunkHead& wanted, std::span<const std::span<uint8_t>> pages,
                         std::string& why) {
  const std::string name = file_name(wanted.kind, wanted.identity, wanted.tokens.size());
  const auto failed = [&](Loaded what, const std::string& text) {
    why = files_.path() + "/" + name + ": " + text;
    if (what == Loaded::damaged && read_only().empty()) files_.remove(name);
    return what;
  };
  const SharedFile file = files_.open(name);
  if (file.missing()) return Loaded::missing;
  if (!file) return failed(Loaded::unreadable, file.why());
  if (file.bytes() != wanted.file_bytes()) {
    return failed(Loaded::damaged, "has " + std::to_string(file.bytes()) + " bytes, must have " +
                                       std::to_string(wanted.file_bytes()));
  }
  // A page is summed while it is in the cache.
  FileSum computed;
  std::vector<uint8_t> start(wanted.pages_offset());
  std::array<uint8_t, kChunkSumBytes> sum;
  std::vector<std::span<uint8_t>> parts = {start};
  parts.insert(parts.end(), pages.begin(), pages.end());
  parts.push_back(sum);
  uint64_t at = 0;
  for (const std::span<uint8_t> part : parts) {
    const int64_t got = file.read(part, at);
    if (got < 0) return failed(Loaded::unreadable, "cannot read: " + error_text(errno));
    at += static_cast<uint64_t>(got);
    if (static_cast<uint64_t>(got) != part.size()) return failed(Loaded::damaged, "was truncated");
    if (part.data() != sum.data()) computed.add(part);
  }
  switch (check(wanted, start, computed == sum)) {
    case ChunkCheck::good:
      break;
    case ChunkCheck::damaged:
      return failed(Loaded::damaged, "its checksum or its head is wrong");
    case ChunkCheck::other:
      return failed(Loaded::other, "is of another text, model or setting of the same identity");
  }
  file.touch();
  return Loaded::good;
}

bool ChunkFolder::publish(const ChunkHead& head, std::span<uint8_t> bytes,
                          std::span<const Identity> keep) {
  if (!read_only().empty()) return false;
  const std::string name = file_name(head.kind, head.identity, head.tokens.size());
  if (const auto info = files_.info(name); info && info->bytes == bytes.size()) {
    files_.touch(name);
    return false;
  }
  if (!make_room(bytes.size(), keep)) return false;
  seal(head, bytes);
  if (const int error = files_.publish(name, bytes); error != 0) {
    fail(Status::io_error, files_.path() + "/" + name + ": cannot write: " + error_text(error));
  }
  bytes_ += bytes.size();
  return true;
}

bool ChunkFolder::make_room(uint64_t bytes, std::span<const Identity> keep) {
  if (bytes > budget_) return false;
  std::vector<FolderEntry> entries = list();
  uint64_t total = 0;
  for (const FolderEntry& entry : entries) total += entry.bytes;
  if (total <= budget_ - bytes) return true;
  std::erase_if(entries, [&](const FolderEntry& entry) {
    return std::ranges::find(keep, entry.identity) != keep.end();
  });
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  std::ranges::sort(entries, {}, [&](const FolderEntry& entry) { return worth(entry, now); });
  for (const FolderEntry& entry : entries) {
    if (total <= budget_ - bytes) break;
    remove(entry);
    total -= entry.bytes;
    bytes_ = total;
  }
  return total <= budget_ - bytes;
}

uint64_t ChunkFolder::bytes_of(CanonicalKind kind, const Identity& identity,
                               uint64_t tokens) noexcept {
  try {
    const auto info = files_.info(file_name(kind, identity, tokens));
    return info ? info->bytes : 0;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

std::vector<FolderEntry> ChunkFolder::list() {
  std::vector<FolderEntry> entries;
  uint64_t total = 0;
  for (const NamedFile& file : files_.list()) {
    FolderEntry entry;
    if (!parse_name(file.name, entry)) continue;
    entry.bytes = file.info.bytes;
    entry.last_use = file.info.last_use;
    total += entry.bytes;
    entries.push_back(entry);
  }
  bytes_ = total;
  return entries;
}

std::optional<ChunkHead> ChunkFolder::head_of(const FolderEntry& entry) {
  const SharedFile file = files_.open(file_name(entry.kind, entry.identity, entry.tokens));
  if (!file) return std::nullopt;
  FileBuffer start;
  uint64_t needed = kChunkHeadBytes;
  std::optional<ChunkHead> head;
  while (!head && needed > 0) {
    const uint64_t wanted = needed;
    if (file.read(start.resize(wanted)) != static_cast<int64_t>(wanted)) return std::nullopt;
    head = read_head(start.bytes(), file.bytes(), needed);
  }
  if (head && (head->kind != entry.kind || head->identity != entry.identity)) return std::nullopt;
  return head;
}

bool ChunkFolder::remove(const FolderEntry& entry) {
  const std::string name = file_name(entry.kind, entry.identity, entry.tokens);
  const int error = files_.remove(name);
  if (error == 0) return true;
  if (error == ENOENT) return false;
  fail(Status::io_error, files_.path() + "/" + name + ": cannot remove: " + error_text(error));
}

}  // namespace tessera::kv
