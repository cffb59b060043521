// The disk tier seen from the engine: a text that is absent is read from its file, if there is one,
// and else encoded; what was encoded is written. The files are the tier's threads' business, and so
// are the pages that they read into where those lie in this process; others are read and written
// here, between steps.
#include <algorithm>

#include "runtime/engine/attempt.hpp"
#include "runtime/engine/page_access.hpp"

namespace tessera::engine {

void Context::open_disk(const ContextOptions& options) {
  if (options.cache_folder.empty()) return;
  DiskTier::Callbacks callbacks;
  callbacks.changed = [this] {
    std::lock_guard guard(lock_);
    wake();
    stored_.notify_all();
  };
  callbacks.in_use = [this] {
    std::lock_guard guard(lock_);
    std::vector<kv::Identity> used;
    for (const kv::CanonicalRef& text : canonicals_.entries()) {
      if (text->holders > 0 || text->pinned) used.push_back(text->identity);
    }
    return used;
  };
  callbacks.log_warning = options.log_warning;
  disk_ =
      std::make_unique<DiskTier>(options.cache_folder, options.cache_budget, std::move(callbacks));
  gates_.set_folder(&disk_->folder().files());
}

kv::ChunkHead Context::file_head(const kv::Canonical& text) const {
  kv::ChunkHead head;
  head.kind = text.kind;
  head.identity = text.identity;
  head.fingerprint = fingerprints_[static_cast<size_t>(text.kind)];
  head.tokens = text.tokens;
  head.page_bytes = pool_->blocks_for(text.size()) * pool_->block_bytes();
  return head;
}

// Null where it has ended.
SessionRef Context::encoding_of(uint64_t serial) const {
  const auto job = std::ranges::find_if(active_, [&](const SessionRef& session) {
    return session->task && session->task->target && session->task->target->serial == serial;
  });
  return job == active_.end() ? nullptr : *job;
}

// Somebody needs the text itself. If it throws, it sleeps on.
void Context::awaken(const kv::Canonical& text) {
  const SessionRef job = encoding_of(text.serial);
  if (job && job->task->stage == EncodeStage::asleep) load(*job);
}

// Has the text's file read. If it throws, the job has taken some of its pages, for which caches may
// have given up others, and nothing else changed.
void Context::load(SessionState& job) {
  const kv::Canonical& text = *job.task->target;
  kv::Span& span = job.segments.back().span;
  const uint64_t blocks = pool_->blocks_for(text.size());
  span.reserve(blocks - span.blocks.size());
  while (span.blocks.size() < blocks) span.append(take_block(job), 0);
  DiskTier::Reading reading;
  reading.ticket = text.serial;
  reading.wanted = file_head(text);
  reading.pages = pool_->host_pages(span.blocks);
  if (!reading.pages.empty()) reading.blocks = span.blocks;
  disk_->load(std::move(reading));
  job.task->stage = EncodeStage::loading;
}

void Context::take_loads(std::unique_lock<std::mutex>& guard) noexcept {
  while (!stopping_ && page_users_ == 0) {
    std::list<DiskTier::Reading> loaded = disk_->take_loaded();
    if (loaded.empty()) return;
    take_load(guard, loaded.front());
    if (loaded.front().pages.empty()) disk_->give_back(std::move(loaded.front().file));
  }
}

// Gives a text the KV of its file, or else has it computed. The lock is free while pages that the
// tier cannot reach are written: nobody but the engine touches them or the job meanwhile.
void Context::take_load(std::unique_lock<std::mutex>& guard, DiskTier::Reading& reading) noexcept {
  const SessionRef job = encoding_of(reading.ticket);
  if (!job || job->task->stage != EncodeStage::loading) return;
  if (reading.how != kv::Loaded::missing) note_load(*job->task->target);
  reading.blocks.clear();  // the job has them to itself
  bool written = reading.how == kv::Loaded::good;
  Status lost = Status::ok;
  if (written && reading.pages.empty()) {
    written = false;
    attempt(
        [&] {
          forget_ended();
          const Unlocked unlocked(*this, guard, &Context::pages_taken_);
          const uint8_t* pages = reading.file.bytes().data();
          for (const kv::BlockRef& block : job->segments.back().span.blocks) {
            pool_->write(*block, pages);
            pages += pool_->block_bytes();
          }
          written = true;
        },
        [&](Status status, std::string_view message) {
          if (status == Status::device_lost) step_failed(guard, {}, lost = status, message);
        });
  }
  if (lost != Status::ok || !job->task) return;
  if (written) {
    ++counts_.chunks_loaded;
    note_load(*job->task->target);
    finish_encode(*job, Status::ok);
    end_task(*job);
    return;
  }
  attempt([&] { compute_instead(*job); },
          [&](Status status, std::string_view message) { fail_session(*job, status, message); });
}

// For the reports of those who wait for it.
void Context::note_load(const kv::Canonical& text) noexcept {
  const Clock::time_point now = Clock::now();
  for (const SessionRef& session : active_) {
    if (!session->task || session->task->purpose == Purpose::encode) continue;
    const bool waits = std::ranges::any_of(session->segments, [&](const Segment& segment) {
      return !segment.computed_here() && !segment.attached && segment.canonical.get() == &text;
    });
    if (waits) session->task->load_time = now - session->task->begun;
  }
}

// Its base sleeps, with pages promised to it, or is ready: it was pinned all the time. Only one
// that failed meanwhile may lack room.
void Context::compute_instead(SessionState& job) {
  for (const kv::CanonicalRef& base : base_of(job.task->target->kind)) {
    std::vector<const kv::Canonical*> counted;
    const uint64_t need = encode_need(base, counted);
    if (need > 0) check_available(need);
    start_encode(base);
  }
  job.task->stage = EncodeStage::computing;
}

// Whether there is nothing to do for this encoding: it waits for its file, or sleeps. It ends where
// nobody may need it any more.
bool Context::settle_waiting(SessionState& job) noexcept {
  const Task& task = *job.task;
  if (task.stage == EncodeStage::computing) return false;
  if (task.stage == EncodeStage::asleep && task.target->holders == 0) {
    task.target->state = kv::CanonicalState::absent;
    end_task(job);
  }
  return true;
}

void Context::store_later(const kv::CanonicalRef& text) noexcept {
  if (!disk_ || !disk_->writes()) return;
  attempt([&] { unsaved_.push_back(text); }, [](Status, std::string_view) {});  // stays unsaved
}

// Copies one text's pages for the tier to write. False: there is none, or too many wait already.
// One at a time, since the lock is held.
bool Context::store_one() noexcept {
  if (unsaved_.empty() || !disk_->takes_stores()) return false;
  const kv::CanonicalRef text = std::move(unsaved_.front());
  unsaved_.pop_front();
  if (text->state == kv::CanonicalState::ready) {
    attempt([&] { store(*text); }, [](Status, std::string_view) {});  // stays unsaved
  }
  stored_.notify_all();  // it may have been the last one, and dropped
  return true;
}

void Context::store(const kv::Canonical& text) {
  kv::ChunkHead head = file_head(text);
  kv::FileBuffer file = disk_->buffer();
  uint8_t* pages = file.resize(head.file_bytes()).data() + head.pages_offset();
  for (const kv::BlockRef& block : text.blocks) {
    pool_->read(*block, pages);
    pages += pool_->block_bytes();
  }
  disk_->store(std::move(head), std::move(file));
}

bool Context::flush(int64_t timeout_ms) {
  if (!disk_ || !disk_->writes()) return true;
  std::unique_lock guard(lock_);
  // What a lost device holds cannot be read; what was read before is still written.
  const auto over = [&] {
    return waits_ended_ || ((unsaved_.empty() || failure_ != Status::ok) && !disk_->stores());
  };
  if (timeout_ms < 0) {
    stored_.wait(guard, over);
  } else if (!stored_.wait_for(guard, std::chrono::milliseconds(timeout_ms), over)) {
    return false;
  }
  if (waits_ended_) {
    fail(Status::cancelled, "the context was destroyed while its folder was written");
  }
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  return true;
}

std::vector<DiskEntry> Context::list_disk() {
  std::vector<DiskEntry> chunks;
  if (!disk_) return chunks;
  for (const kv::FolderEntry& entry : disk_->folder().list()) {
    if (entry.kind != kv::CanonicalKind::chunk) continue;
    const std::optional<kv::ChunkHead> head = disk_->folder().head_of(entry);
    const kv::Identity& ours = fingerprints_[static_cast<size_t>(entry.kind)];
    if (!head || head->fingerprint != ours) continue;
    chunks.push_back({entry.identity, entry.tokens, entry.bytes, entry.last_use});
  }
  return chunks;
}

std::vector<int32_t> Context::disk_tokens(const kv::Identity& chunk) {
  std::vector<int32_t> found;
  if (disk_) {
    for (const kv::FolderEntry& entry : disk_->folder().list()) {
      if (entry.kind != kv::CanonicalKind::chunk || entry.identity != chunk) continue;
      std::optional<kv::ChunkHead> head = disk_->folder().head_of(entry);
      const kv::Identity& ours = fingerprints_[static_cast<size_t>(entry.kind)];
      if (!head || head->fingerprint != ours) continue;
      if (!found.empty()) {
        fail(Status::not_found,
             "two chunks on disk have this id; create the one meant by its text");
      }
      found = std::move(head->tokens);
    }
  }
  if (found.empty()) fail(Status::not_found, "no chunk of this identity is on disk");
  return found;
}

bool Context::remove_from_disk(const kv::Identity& chunk) {
  if (!disk_) return false;
  // Also where the folder cannot be read: there may be room for what waits to be written, or
  // nothing waits any more.
  struct Told {
    Context& context;
    ~Told() {
      std::lock_guard guard(context.lock_);
      context.wake();
      context.stored_.notify_all();
    }
  } told{*this};
  bool waited = false;
  {
    std::lock_guard guard(lock_);
    waited = std::erase_if(unsaved_, [&](const kv::CanonicalRef& text) {
               return text->kind == kv::CanonicalKind::chunk && text->identity == chunk;
             }) > 0;
  }
  return disk_->remove(kv::CanonicalKind::chunk, chunk) || waited;
}

}  // namespace tessera::engine
