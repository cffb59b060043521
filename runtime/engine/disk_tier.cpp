#include "runtime/engine/disk_tier.hpp"

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "runtime/engine/attempt.hpp"

namespace tessera::engine {
namespace {

constexpr uint64_t kMostQueued = uint64_t{64} << 20;  // bytes in host memory, each way
constexpr size_t kMostSpare = 2;                      // buffers

bool told(kv::Loaded how) {
  return how != kv::Loaded::good && how != kv::Loaded::missing;
}

}  // namespace

DiskTier::DiskTier(const std::string& folder, uint64_t budget, Callbacks callbacks)
    : folder_(folder, budget), callbacks_(std::move(callbacks)) {
  spare_.reserve(kMostSpare);
  if (!writes()) {
    warn(folder + ": nothing is written to this cache folder: " + folder_.read_only());
  }
  try {
    for (std::thread& reader : readers_) reader = std::thread([this] { read_files(); });
    if (writes()) writer_ = std::thread([this] { write_files(); });
  } catch (const std::bad_alloc&) {
    stop();
    throw;
  } catch (const std::system_error& error) {
    stop();
    fail(Status::out_of_host_memory,
         std::string("cannot start the threads of the cache folder: ") + error.what());
  }
}

DiskTier::~DiskTier() {
  stop();
}

void DiskTier::stop() noexcept {
  {
    std::lock_guard guard(lock_);
    stopping_ = true;
  }
  reads_.notify_all();
  writes_.notify_all();
  for (std::thread& reader : readers_) {
    if (reader.joinable()) reader.join();
  }
  if (writer_.joinable()) writer_.join();
}

void DiskTier::load(Reading reading) {
  std::list<Reading> one;
  one.push_back(std::move(reading));
  {
    std::lock_guard guard(lock_);
    one.front().turn = asked_++;
    to_read_.splice(to_read_.end(), one);
  }
  reads_.notify_one();
}

std::list<DiskTier::Reading> DiskTier::take_loaded() {
  std::list<Reading> one;
  {
    std::lock_guard guard(lock_);
    if (loaded_.empty() || loaded_.front().turn != taken_) return one;
    ++taken_;
    one.splice(one.begin(), loaded_, loaded_.begin());
    loaded_bytes_ -= one.front().file.bytes().size();
  }
  reads_.notify_one();
  return one;
}

void DiskTier::give_back(kv::FileBuffer file) noexcept {
  std::lock_guard guard(lock_);
  if (spare_.size() < kMostSpare) spare_.push_back(std::move(file));
}

kv::FileBuffer DiskTier::buffer() {
  std::lock_guard guard(lock_);
  if (spare_.empty()) return {};
  kv::FileBuffer file = std::move(spare_.back());
  spare_.pop_back();
  return file;
}

void DiskTier::read_files() noexcept {
  std::unique_lock guard(lock_);
  while (true) {
    reads_.wait(guard,
                [&] { return stopping_ || (!to_read_.empty() && loaded_bytes_ < kMostQueued); });
    if (stopping_) return;
    std::list<Reading> one;
    one.splice(one.begin(), to_read_, to_read_.begin());
    guard.unlock();
    Reading& reading = one.front();
    read(reading);
    guard.lock();
    if (told(reading.how)) ++counts_.load_failures;
    loaded_bytes_ += reading.file.bytes().size();
    const uint64_t turn = reading.turn;
    loaded_.splice(std::ranges::find_if(loaded_, [&](const Reading& r) { return r.turn > turn; }),
                   one);
    guard.unlock();
    callbacks_.changed();
    guard.lock();
  }
}

void DiskTier::read(Reading& reading) noexcept {
  std::string why;
  attempt([&] { reading.how = load(reading, why); },
          [&](Status, std::string_view message) {
            reading.how = kv::Loaded::unreadable;
            attempt([&] { why = message; }, [](Status, std::string_view) {});
          });
  if (!told(reading.how)) return;
  // Numbers that are none would spread from slots that nobody filled.
  for (const std::span<uint8_t> page : reading.pages) std::ranges::fill(page, uint8_t{0});
  attempt([&] { warn(why + "; the text is encoded instead"); }, [](Status, std::string_view) {});
}

kv::Loaded DiskTier::load(Reading& reading, std::string& why) {
  const kv::ChunkHead& wanted = reading.wanted;
  if (!reading.pages.empty()) return folder_.load(wanted, reading.pages, why);
  kv::FileBuffer file = buffer();
  const std::span<uint8_t> pages = file.resize(wanted.page_bytes);
  const kv::Loaded how = folder_.load(wanted, std::span(&pages, 1), why);
  if (how == kv::Loaded::good) {
    reading.file = std::move(file);
  } else {
    give_back(std::move(file));
  }
  return how;
}

bool DiskTier::takes_stores() {
  std::lock_guard guard(lock_);
  return writes() && bytes_to_write_ < kMostQueued;
}

bool DiskTier::stores() {
  std::lock_guard guard(lock_);
  return writing_ || !to_write_.empty();
}

void DiskTier::store(kv::ChunkHead head, kv::FileBuffer file) {
  std::list<Writing> one(1);
  one.front().head = std::move(head);
  one.front().file = std::move(file);
  {
    std::lock_guard guard(lock_);
    bytes_to_write_ += one.front().file.bytes().size();
    to_write_.splice(to_write_.end(), one);
  }
  writes_.notify_one();
}

void DiskTier::write_files() noexcept {
  std::unique_lock guard(lock_);
  while (true) {
    writes_.wait(guard, [&] { return stopping_ || !to_write_.empty(); });
    if (stopping_) return;
    std::list<Writing> one;
    one.splice(one.begin(), to_write_, to_write_.begin());
    writing_ = &one.front();
    guard.unlock();
    const uint64_t bytes = one.front().file.bytes().size();
    write(one.front());
    guard.lock();
    writing_ = nullptr;
    bytes_to_write_ -= bytes;
    idle_.notify_all();
    guard.unlock();
    give_back(std::move(one.front().file));
    callbacks_.changed();
    guard.lock();
  }
}

// What cannot be written is told once, until something can be again.
void DiskTier::write(Writing& writing) noexcept {
  bool stored = false;
  std::string why;
  attempt(
      [&] { stored = folder_.publish(writing.head, writing.file.bytes(), callbacks_.in_use()); },
      [&](Status, std::string_view message) {
        attempt([&] { why = message; }, [](Status, std::string_view) {});
        if (why.empty()) why = "out of memory";
      });
  bool told_before = false;
  {
    std::lock_guard guard(lock_);
    told_before = std::exchange(store_failed_, !why.empty());
    counts_.stored += stored;
    counts_.store_failures += !why.empty();
  }
  if (why.empty() || told_before) return;
  attempt([&] { warn(why + "; it goes on without storing texts"); },
          [](Status, std::string_view) {});
}

bool DiskTier::remove(kv::CanonicalKind kind, const kv::Identity& identity) {
  bool found = false;
  const auto same = [&](const kv::ChunkHead& head) {
    return head.kind == kind && head.identity == identity;
  };
  {
    std::unique_lock guard(lock_);
    for (auto it = to_write_.begin(); it != to_write_.end();) {
      const auto next = std::next(it);
      if (same(it->head)) {
        bytes_to_write_ -= it->file.bytes().size();
        to_write_.erase(it);
        found = true;
      }
      it = next;
    }
    idle_.wait(guard, [&] { return !writing_ || !same(writing_->head); });
  }
  for (const kv::FolderEntry& entry : folder_.list()) {
    if (entry.kind == kind && entry.identity == identity) found |= folder_.remove(entry);
  }
  return found;
}

DiskCounts DiskTier::counts() {
  std::lock_guard guard(lock_);
  DiskCounts counts = counts_;
  counts.bytes = folder_.bytes();
  return counts;
}

void DiskTier::warn(const std::string& message) noexcept {
  if (!callbacks_.log_warning) return;
  attempt([&] { callbacks_.log_warning(message); }, [](Status, std::string_view) {});
}

}  // namespace tessera::engine
