// A shared folder's chunk files: which are there, which go when room is needed. Files are read and
// checked, never mapped. docs/chunk-files.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/kv/chunk_file.hpp"
#include "runtime/kv/shared_folder.hpp"

namespace tessera::kv {

// Room for one file; grows, and is not cleared when it does.
class FileBuffer {
 public:
  std::span<uint8_t> resize(uint64_t bytes);
  std::span<uint8_t> bytes() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  uint64_t size_ = 0;
  uint64_t capacity_ = 0;
};

// One file, by its name alone.
struct FolderEntry {
  CanonicalKind kind = CanonicalKind::chunk;
  Identity identity;
  uint64_t tokens = 0;
  uint64_t bytes = 0;    // of the file
  int64_t last_use = 0;  // nanoseconds since 1970
};

enum class Loaded : uint8_t {
  good,
  missing,
  damaged,     // and removed, where the folder allows it
  other,       // a whole file of something else with the same identity
  unreadable,  // not a file, or the system does not read it
};

// Every call may come from any thread.
class ChunkFolder {
 public:
  // Makes the folder where it is missing, and removes what dead processes left half written. Throws
  // what SharedFolder throws.
  ChunkFolder(std::string path, uint64_t budget);

  const SharedFolder& files() const { return files_; }
  uint64_t budget() const { return budget_; }
  // Why nothing can be published; empty where it can.
  const std::string& read_only() const { return files_.read_only(); }

  // Reads the whole file and checks it; what it says of the KV goes to `pages`, wanted.page_bytes
  // bytes together, which hold anything where it is not good. `why` says what is wrong where
  // something is.
  Loaded load(const ChunkHead& wanted, std::span<const std::span<uint8_t>> pages, std::string& why);

  // Seals `file`, whose pages are in place, and puts it into the folder, whole or not at all. Makes
  // room within the budget by removing files, but none of `keep`. Nothing where the file is there
  // already, or where the budget cannot hold it. False: nothing was written. Throws io_error.
  bool publish(const ChunkHead& head, std::span<uint8_t> file, std::span<const Identity> keep);

  // What has a name of ours; anything else is left alone. Throws io_error.
  std::vector<FolderEntry> list();
  // Of a text's file; 0 where it has none.
  uint64_t bytes_of(CanonicalKind kind, const Identity& identity, uint64_t tokens) noexcept;
  // What the file says, without its pages; none where it is missing or damaged.
  std::optional<ChunkHead> head_of(const FolderEntry& entry);
  // Whether there was such a file. Throws io_error where it cannot be removed.
  bool remove(const FolderEntry& entry);

  // Of all files, when the folder was last looked through.
  uint64_t bytes() const { return bytes_; }

 private:
  bool make_room(uint64_t bytes, std::span<const Identity> keep);

  SharedFolder files_;
  uint64_t budget_;
  std::atomic<uint64_t> bytes_{0};
};

// "chunk-<32 hexadecimal digits>-<tokens>.tsrkv"
std::string file_name(CanonicalKind kind, const Identity& identity, uint64_t tokens);

}  // namespace tessera::kv
