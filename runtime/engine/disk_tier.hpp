// The threads that read and write chunk files, so that neither the engine nor a caller ever waits
// for a disk. Two read, since a page's first touch takes longer than its file's bytes, and one
// writes: nobody who waits for a text waits for the end of a write.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "runtime/kv/chunk_folder.hpp"
#include "runtime/kv/page_pool.hpp"

namespace tessera::engine {

struct DiskCounts {
  uint64_t stored = 0;
  uint64_t load_failures = 0;  // files that were there and of no use
  uint64_t store_failures = 0;
  uint64_t bytes = 0;  // of all files, when the folder was last looked through
};

// Has a lock of its own, which is free while a file is read or written and while it calls out.
class DiskTier {
 public:
  // Called on the tier's threads, or in the constructor, with none of its locks held.
  struct Callbacks {
    std::function<void()> changed;                      // a text was read or written
    std::function<std::vector<kv::Identity>()> in_use;  // texts whose files stay
    std::function<void(const std::string&)> log_warning;
  };
  // References to blocks are counted under the owner's lock: the tier's threads only pass it on.
  struct Reading {
    uint64_t ticket = 0;
    kv::ChunkHead wanted;
    std::vector<std::span<uint8_t>> pages;    // to read into, in this process; none: into `file`
    std::vector<kv::BlockRef> blocks;         // of `pages`: nobody else's until this is taken
    kv::Loaded how = kv::Loaded::unreadable;  // not good: `pages` hold zeros, or what they held
    kv::FileBuffer file;                      // good, and no `pages`: the KV
    uint64_t turn = 0;                        // the tier's
  };

  // Throws what ChunkFolder throws.
  DiskTier(const std::string& folder, uint64_t budget, Callbacks callbacks);
  ~DiskTier();  // waits for the files at hand; what else is queued is dropped

  // Reads the text's file: ticket, head, pages and blocks are the caller's. If it throws, nothing
  // changed.
  void load(Reading reading);
  // What was read, or could not be: one, or none. In the order of the calls, so that the same calls
  // leave the same things in the cache. Its buffer is given back.
  std::list<Reading> take_loaded();
  void give_back(kv::FileBuffer file) noexcept;

  // Whether files can be written and few wait for it.
  bool takes_stores();
  // Whether files wait to be written, or one is being written.
  bool stores();
  bool writes() const { return folder_.read_only().empty(); }
  kv::FileBuffer buffer();
  // Writes a file whose pages are in place. If it throws, nothing changed.
  void store(kv::ChunkHead head, kv::FileBuffer file);

  // Removes the files of a text, one that waits to be written included; one that is being written
  // is waited for. False: there was none.
  bool remove(kv::CanonicalKind kind, const kv::Identity& identity);
  kv::ChunkFolder& folder() { return folder_; }
  DiskCounts counts();

 private:
  struct Writing {
    kv::ChunkHead head;
    kv::FileBuffer file;
  };
  void read_files() noexcept;
  void read(Reading& reading) noexcept;
  kv::Loaded load(Reading& reading, std::string& why);
  void write_files() noexcept;
  void write(Writing& writing) noexcept;
  void warn(const std::string& message) noexcept;
  void stop() noexcept;

  kv::ChunkFolder folder_;
  Callbacks callbacks_;
  std::mutex lock_;
  std::condition_variable reads_;   // the reading threads wait
  std::condition_variable writes_;  // the writing thread waits
  std::condition_variable idle_;    // `remove` waits for the file at hand
  bool stopping_ = false;
  std::list<Reading> to_read_;
  std::list<Reading> loaded_;  // by turn
  uint64_t asked_ = 0;         // turns
  uint64_t taken_ = 0;
  uint64_t loaded_bytes_ = 0;  // in buffers
  std::list<Writing> to_write_;
  uint64_t bytes_to_write_ = 0;       // the file at hand included
  const Writing* writing_ = nullptr;  // at hand
  bool store_failed_ = false;         // the last one
  std::vector<kv::FileBuffer> spare_;
  DiskCounts counts_;
  std::array<std::thread, 2> readers_;
  std::thread writer_;
};

}  // namespace tessera::engine
