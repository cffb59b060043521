// Canonical texts: the anchor, the primer and the chunks, and the encodings that give them KV.
#include <algorithm>
#include <chrono>

#include "runtime/engine/context.hpp"
#include "runtime/engine/neutral_primer.hpp"

namespace tessera::engine {

// The library's own takes at most a quarter of a session and of the budget.
std::string Context::primer_text(const ContextOptions& options) const {
  if (!options.primer.empty() || !options.neutral_primer) return options.primer;
  const std::string neutral(neutral_primer());
  const uint64_t tokens = model_->tokenizer().encode(neutral, false).size();
  const uint64_t room =
      std::min<uint64_t>(max_session_tokens_, pool_->total() * pool_->page_slots());
  return 4 * tokens <= room ? neutral : std::string();
}

// All that the bytes of a page depend on besides tokens. The model's fingerprint is of its whole
// file: weights, tokenizer, RoPE and all other keys.
std::string Context::kv_settings(const ContextOptions& options) const {
  const model::Fingerprint& model = model_->fingerprint();
  std::string settings = "tessera KV 1";
  const auto add = [&](const char* name, uint64_t value) {
    settings.append(name).append(std::to_string(value));
  };
  add("; model ", model.low);
  add(" ", model.high);
  add("; math ", static_cast<uint64_t>(model_->math()));
  add("; keys ", static_cast<uint64_t>(options.key_form));
  add("; block ", pool_->block_bytes());
  for (const LayerGroup& group : pool_->layout().groups) add("; window ", group.window);
  return settings.append("; pages ").append(model_->backend().page_layout_name(pool_->layout()));
}

void Context::make_base(const ContextOptions& options) {
  const std::string settings = kv_settings(options);
  kv::Identity identity = kv::fingerprint_of(settings, {});
  const text::Tokenizer& tokenizer = model_->tokenizer();
  const auto make = [&](kv::CanonicalKind kind, const std::string& text, bool special) {
    const std::vector<int32_t> tokens = tokenizer.encode(text, special);
    identity = kv::identify(identity, kind, tokens);
    return tokens.empty() ? nullptr : canonicals_.intern(kind, identity, tokens, base_tokens(kind));
  };
  anchor_ = make(kv::CanonicalKind::anchor, options.anchor, true);
  primer_ = make(kv::CanonicalKind::primer, primer_text(options), false);
  chunk_base_ = identity;
  chunks_alone_ = options.chunks_alone;
  if (chunks_alone_) chunk_base_.high += 1;
  for (const kv::CanonicalKind kind :
       {kv::CanonicalKind::anchor, kv::CanonicalKind::primer, kv::CanonicalKind::chunk}) {
    fingerprints_[static_cast<size_t>(kind)] = kv::fingerprint_of(settings, base_of(kind));
  }
  uint64_t tokens = 0;
  uint64_t blocks = 1;
  for (const kv::CanonicalRef& text : {anchor_, primer_}) {
    if (!text) continue;
    tokens += text->size();
    blocks += pool_->blocks_for(text->size());
  }
  if (blocks > pool_->total()) {
    fail(Status::capacity, "kv_budget is " + std::to_string(options.kv_budget) +
                               " bytes; anchor, primer and one " + "page more take " +
                               std::to_string(blocks * pool_->block_bytes()));
  }
  if (tokens >= max_session_tokens_) {
    fail(Status::capacity, "anchor and primer have " + std::to_string(tokens) +
                               " tokens; max_session_tokens is " +
                               std::to_string(max_session_tokens_));
  }
}

// What a text of this kind is encoded behind.
std::vector<kv::CanonicalRef> Context::base_of(kv::CanonicalKind kind) const {
  std::vector<kv::CanonicalRef> base;
  if (kind == kv::CanonicalKind::chunk && chunks_alone_) return base;
  if (kind != kv::CanonicalKind::anchor && anchor_) base.push_back(anchor_);
  if (kind == kv::CanonicalKind::chunk && primer_) base.push_back(primer_);
  return base;
}

uint64_t Context::base_tokens(kv::CanonicalKind kind) const {
  uint64_t tokens = 0;
  for (const kv::CanonicalRef& base : base_of(kind)) tokens += base->size();
  return tokens;
}

// Blocks that an encoding would take from `available`: its own, its base's, and those of a ready
// base that would no longer be evictable. Texts in `counted` are free, and are added to it.
uint64_t Context::encode_need(const kv::CanonicalRef& text,
                              std::vector<const kv::Canonical*>& counted) {
  if (std::ranges::find(counted, text.get()) != counted.end()) return 0;
  counted.push_back(text.get());
  if (text->state == kv::CanonicalState::pending) return 0;
  if (text->ready()) return text->evictable() ? text->blocks.size() : 0;
  uint64_t need = pool_->blocks_for(text->size());
  for (const kv::CanonicalRef& base : base_of(text->kind)) need += encode_need(base, counted);
  return need;
}

// Hands the encoding to the engine. The caller has checked that it fits. If it throws, encodings of
// what the text stands behind may have been started, and caches have given up pages for them, and
// nothing else. With a disk tier the text's file is tried first, and its base sleeps until it turns
// out that there is none.
void Context::start_encode(const kv::CanonicalRef& text, bool asleep) {
  if (text->state == kv::CanonicalState::ready) return;
  if (text->state == kv::CanonicalState::pending) {
    if (disk_ && !asleep) awaken(*text);
    return;
  }
  auto job = std::make_shared<SessionState>(SessionOptions{});
  job->prefix_open = false;
  for (const kv::CanonicalRef& base : base_of(text->kind)) {
    start_encode(base, disk_ != nullptr);
    append_canonical(
        *job, base->kind == kv::CanonicalKind::anchor ? SegmentKind::anchor : SegmentKind::shared,
        base);
  }
  append_canonical(*job, SegmentKind::recomputed, text);
  Task task(Purpose::encode);
  task.target = text;
  task.begun = Clock::now();
  task.prompt_tokens = job->tokens;
  if (disk_) task.stage = EncodeStage::asleep;
  job->task.emplace(std::move(task));
  active_.push_back(job);
  job->turn = ++last_turn_;
  for (Segment& segment : job->segments) {
    if (segment.computed_here()) continue;
    canonicals_.hold(*segment.canonical);
    segment.pinned = true;
  }
  reserve(*job, pool_->blocks_for(text->size()));
  const kv::CanonicalState before = std::exchange(text->state, kv::CanonicalState::pending);
  wake();
  if (!disk_ || asleep) return;
  try {
    load(*job);
  } catch (...) {
    text->state = before;
    end_task(*job);
    active_.pop_back();
    throw;
  }
}

void Context::finish_encode(SessionState& job, Status status) noexcept {
  kv::Canonical& text = *job.task->target;
  if (status == Status::ok) {
    canonicals_.take_in(text, std::move(job.segments.back().span.blocks));
    if (job.task->stage == EncodeStage::computing) store_later(job.task->target);
  } else {
    text.state = kv::CanonicalState::failed;
    text.error = status;
    text.message = std::move(job.task->last_event.front().text);
    text.failure_told = false;
  }
  chunks_.notify_all();
}

// Whether a chunk of so many tokens can be encoded.
void Context::check_chunk(uint64_t tokens) const {
  const uint64_t length = base_tokens(kv::CanonicalKind::chunk) + tokens;
  if (length <= max_session_tokens_) return;
  fail(Status::capacity, "the chunk has " + std::to_string(tokens) +
                             " tokens, with anchor and primer " + std::to_string(length) +
                             "; a session has room for " + std::to_string(max_session_tokens_));
}

kv::CanonicalRef Context::create_chunk(std::vector<int32_t> tokens, bool lazy) {
  const uint64_t depth = base_tokens(kv::CanonicalKind::chunk);
  std::lock_guard guard(lock_);
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  check_chunk(tokens.size());
  canonicals_.sweep();
  const kv::Identity identity = kv::identify(chunk_base_, kv::CanonicalKind::chunk, tokens);
  kv::CanonicalRef chunk =
      canonicals_.intern(kv::CanonicalKind::chunk, identity, std::move(tokens), depth);
  const bool known =
      chunk->state == kv::CanonicalState::ready || chunk->state == kv::CanonicalState::pending;
  ++(known ? counts_.chunk_hits : counts_.chunk_misses);
  if (!known && !lazy) {
    std::vector<const kv::Canonical*> counted;
    const uint64_t need = encode_need(chunk, counted);
    if (need > pool_->total()) check_available(need);
    // Without room now, it stays absent and is encoded when a session needs it.
    if (need <= available()) start_encode(chunk);
  }
  return chunk;
}

bool Context::wait_chunk(const kv::CanonicalRef& chunk, const bool& ended, int64_t timeout_ms) {
  std::unique_lock guard(lock_);
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  const bool failed = chunk->state == kv::CanonicalState::failed;
  if (chunk->state == kv::CanonicalState::absent || (failed && chunk->failure_told)) {
    std::vector<const kv::Canonical*> counted;
    check_available(encode_need(chunk, counted));
    start_encode(chunk);
  }
  const auto settled = [&] { return ended || chunk->state != kv::CanonicalState::pending; };
  if (timeout_ms < 0) {
    chunks_.wait(guard, settled);
  } else if (!chunks_.wait_for(guard, std::chrono::milliseconds(timeout_ms), settled)) {
    return false;
  }
  if (ended) fail(Status::cancelled, "the chunk was destroyed while it was waited for");
  if (chunk->state == kv::CanonicalState::failed) {
    chunk->failure_told = true;
    fail(chunk->error, chunk->message);
  }
  return true;
}

void Context::end_chunk_waits(bool& ended) noexcept {
  std::lock_guard guard(lock_);
  ended = true;
  chunks_.notify_all();
}

ChunkInfo Context::chunk_info(const kv::CanonicalRef& chunk) {
  std::unique_lock guard(lock_);
  ChunkInfo info;
  info.state = chunk->state;
  info.tokens = chunk->size();
  info.bytes = chunk->blocks.size() * pool_->block_bytes();
  info.uses = chunk->uses;
  info.identity = chunk->identity;
  info.pinned = chunk->pinned;
  info.sessions = sessions_of(*chunk);
  info.cost = static_cast<uint64_t>(chunk->cost);
  guard.unlock();
  if (disk_) info.disk_bytes = disk_->folder().bytes_of(chunk->kind, info.identity, info.tokens);
  return info;
}

void Context::release_chunk(kv::CanonicalRef chunk) noexcept {
  std::lock_guard guard(lock_);
  chunk.reset();
  canonicals_.sweep();
}

}  // namespace tessera::engine
