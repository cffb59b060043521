// What applications do with sessions: the calls behind the C ABI.
#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/engine/context.hpp"

namespace tessera::engine {
namespace {

constexpr uint32_t kDefaultNewTokens = 256;

template <typename Ready>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& guard,
                int64_t timeout_ms, Ready ready) {
  if (timeout_ms < 0) {
    changed.wait(guard, ready);
    return true;
  }
  return changed.wait_for(guard, std::chrono::milliseconds(timeout_ms), ready);
}

// The first token whose logits an evaluation gives.
uint64_t first_logits(const SessionState& session, bool all) {
  const uint64_t last = std::max<uint64_t>(session.tokens, 1) - 1;
  return all ? std::min(session.settled, last) : last;
}

}  // namespace

SessionRef Context::create_session(const SessionOptions& options) {
  check_gate(options);
  auto session = std::make_shared<SessionState>(options);
  session->prefix_open = !options.measures;
  std::lock_guard guard(lock_);
  if (options.measures && waits_ended_) fail(Status::cancelled, "the context was destroyed");
  sessions_.push_back(session);
  return session;
}

void Context::set_handle(SessionState& session, uint64_t handle) {
  std::lock_guard guard(lock_);
  session.handle = handle;
}

void Context::close_session(SessionState& session) noexcept {
  std::lock_guard guard(lock_);
  session.closed = true;
  session.changed.notify_all();
  SessionRef keep;  // the engine may hold the last reference; the pool needs the lock
  const auto it = std::ranges::find_if(
      sessions_, [&](const SessionRef& other) { return other.get() == &session; });
  if (it != sessions_.end()) {
    keep = *it;
    sessions_.erase(it);
  }
  if (session.task) {
    interrupt();  // the engine lets go of it between steps
  } else {
    drop_context(session);
    wake();  // an encoding may wait for somebody who needs it
  }
}

void Context::check_idle(const SessionState& session) const {
  if (session.closed) fail(Status::cancelled, "the session was destroyed");
  if (session.task || !session.events.empty()) {
    fail(Status::busy,
         "an answer of this session is under way; read its events up to DONE or FAILED first");
  }
}

void Context::check_room(const SessionState& session, uint64_t tokens) const {
  const uint64_t left = max_session_tokens_ - session.tokens;
  if (tokens > left) {
    fail(Status::capacity, "the addition has " + std::to_string(tokens) + " tokens; the session " +
                               "has room for " + std::to_string(left) + " of its " +
                               std::to_string(max_session_tokens_));
  }
}

// If it throws, nothing changed.
void Context::append_tokens(SessionState& session, std::span<const int32_t> tokens) {
  if (tokens.empty()) return;
  if (session.segments.empty() || session.segments.back().kind != SegmentKind::text) {
    Segment segment;
    segment.exact = session.segments.empty() || session.segments.back().exact;
    segment.span.logical_start = static_cast<int32_t>(session.tokens);
    segment.tokens.assign(tokens.begin(), tokens.end());
    session.segments.push_back(std::move(segment));
  } else {
    std::vector<int32_t>& all = session.segments.back().tokens;
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  Segment& segment = session.segments.back();
  segment.length = static_cast<uint32_t>(segment.tokens.size());
  session.tokens += tokens.size();
}

// A canonical text taken as encoded; of a chunk that is repaired, the head first and the rest as
// encoded. If it throws, nothing changed.
void Context::append_canonical(SessionState& session, SegmentKind kind,
                               const kv::CanonicalRef& text) {
  const std::vector<Segment>& before = session.segments;
  Segment segment;
  segment.kind = kind;
  segment.canonical = text;
  segment.length = text->size();
  segment.exact = before.empty() || before.back().exact;
  segment.span.logical_start = static_cast<int32_t>(session.tokens);
  segment.span.frame_start = segment.span.logical_start;
  if (kind == SegmentKind::recomputed) segment.tokens = text->tokens;
  if (kind == SegmentKind::shared) {
    segment.exact = exact_as_encoded(session);
    if (!segment.exact && session.options.repairs_heads()) {
      append_with_head(session, segment);
      return;
    }
  }
  session.segments.push_back(std::move(segment));
  session.tokens += text->size();
}

// Whether a chunk that is added now would stand behind just what it was encoded behind.
bool Context::exact_as_encoded(const SessionState& session) const {
  const std::vector<Segment>& before = session.segments;
  if (chunks_alone_ || !anchor_) return before.empty() && (chunks_alone_ || !primer_);
  return before.size() == 1 && before[0].kind == SegmentKind::anchor && !primer_ &&
         before[0].length == anchor_->size();
}

// The chunk's first tokens are computed here; the rest keeps its place in the chunk's pages, less
// those that hold nothing but the head.
void Context::append_with_head(SessionState& session, const Segment& whole) {
  const uint32_t page_slots = pool_->page_slots();
  const uint32_t size = whole.length;
  Segment head;
  head.kind = SegmentKind::recomputed;
  head.canonical = whole.canonical;
  head.length = std::min(session.options.head_tokens, size);
  head.tokens.assign(whole.canonical->tokens.begin(),
                     whole.canonical->tokens.begin() + head.length);
  head.exact = session.segments.empty() || session.segments.back().exact;
  head.repairs = true;
  head.span.logical_start = whole.span.logical_start;
  head.span.frame_start = whole.span.frame_start;
  Segment rest = whole;
  rest.skip = head.length;
  rest.length = size - head.length;
  rest.span.logical_start += static_cast<int32_t>(rest.skip / page_slots * page_slots);
  session.segments.reserve(session.segments.size() + 2);
  session.segments.push_back(std::move(head));
  if (rest.length > 0) session.segments.push_back(std::move(rest));
  session.tokens += size;
}

void Context::add_anchor(SessionState& session) {
  std::lock_guard guard(lock_);
  check_idle(session);
  if (!anchor_) fail(Status::invalid_argument, "the context was created without an anchor");
  if (!session.segments.empty()) {
    fail(Status::invalid_argument, "the anchor must be the session's first addition");
  }
  check_room(session, anchor_->size());
  append_canonical(session, SegmentKind::anchor, anchor_);
  session.asks = true;
}

void Context::add_tokens(SessionState& session, std::span<const int32_t> tokens) {
  std::lock_guard guard(lock_);
  check_idle(session);
  check_room(session, tokens.size());
  append_tokens(session, tokens);
  session.asks |= !tokens.empty();
}

void Context::add_chunk(SessionState& session, const kv::CanonicalRef& chunk) {
  std::lock_guard guard(lock_);
  check_idle(session);
  check_room(session, chunk->size());
  append_canonical(
      session,
      session.options.repair == Repair::full ? SegmentKind::recomputed : SegmentKind::shared,
      chunk);
  session.asks = true;
}

// What the answer's tokens are compared with. Only the session's caller changes its tokens while no
// task is under way, so they are copied under the lock and looked at without it.
void Context::look_back(SessionState& session, Task& task) {
  const PenaltyOptions& penalties = task.options.penalties;
  const bool adjusts = penalties.looks_back() || !penalties.biases.empty();
  const uint32_t lookup_tokens = task.options.lookup_tokens;
  if (!adjusts && lookup_tokens == 0) return;
  task.history = tokens(session);
  const uint64_t new_tokens = task.options.max_tokens ? task.options.max_tokens : kDefaultNewTokens;
  const size_t most = std::min<uint64_t>(task.history.size() + new_tokens, max_session_tokens_);
  task.history.reserve(most);
  if (adjusts) task.penalties.emplace(penalties, task.history);
  if (lookup_tokens > 0) task.lookup.emplace(task.history, most, lookup_tokens);
}

void Context::generate(SessionState& session, const GenerateOptions& options) {
  Task task(Purpose::generate);
  task.options = options;
  task.stops = text::StopMatcher(options.stops);
  {
    std::lock_guard guard(lock_);
    check_idle(session);
  }
  look_back(session, task);
  std::lock_guard guard(lock_);
  check_idle(session);
  if (session.tokens == 0) {
    fail(Status::invalid_argument, "the session is empty; add text before generating");
  }
  const uint64_t left = max_session_tokens_ - session.tokens;
  uint64_t wanted = options.max_tokens;
  if (wanted == 0) wanted = std::min<uint64_t>(kDefaultNewTokens, std::max<uint64_t>(left, 1));
  if (wanted > left) {
    fail(Status::capacity, "max_tokens is " + std::to_string(wanted) + "; the session has room " +
                               "for " + std::to_string(left) + " of its " +
                               std::to_string(max_session_tokens_) + " tokens");
  }
  task.options.max_tokens = static_cast<uint32_t>(wanted);
  begin(session, std::move(task), wanted);
}

uint64_t Context::evaluate_size(SessionState& session, bool all) {
  std::lock_guard guard(lock_);
  check_idle(session);
  if (session.tokens == 0) {
    fail(Status::invalid_argument, "the session is empty; add text before evaluating");
  }
  uint64_t rows = 0;
  const uint64_t first = first_logits(session, all);
  for (const Segment& segment : session.segments) {
    if (segment.overlay()) continue;
    if (segment.computed_here()) {
      const uint64_t end = static_cast<uint64_t>(segment.span.logical_start) + segment.length;
      rows += std::min<uint64_t>(segment.pending(), end - std::min(end, first));
    } else if (all && segment.pending() > 0 && segment.kind != SegmentKind::anchor) {
      fail(Status::invalid_argument,
           "TSR_LOGITS_ALL: the session holds a chunk that is not computed yet; "
           "evaluate it with TSR_LOGITS_LAST first");
    }
  }
  const Segment& last = session.segments.back();
  if (!last.computed_here() || last.pending() == 0) ++rows;  // reopen_last_token
  return rows * model_->hyperparameters().vocabulary;
}

std::vector<float> Context::evaluate(SessionState& session, bool all) {
  Task task(Purpose::evaluate);
  task.all_logits = all;
  task.logits.reserve(evaluate_size(session, all));
  std::unique_lock guard(lock_);
  check_idle(session);
  task.first_logits = first_logits(session, all);
  begin(session, std::move(task), 0);
  session.changed.wait(guard, [&] { return session.closed || !session.task; });
  if (session.closed) fail(Status::cancelled, "the session was destroyed while it was evaluated");
  if (session.ended.kind == EventKind::failed) fail(session.ended.status, session.ended.text);
  return std::move(session.ended_logits);
}

bool Context::next(SessionState& session, int64_t timeout_ms, Event& event) {
  std::unique_lock guard(lock_);
  const bool ready = wait_until(session.changed, guard, timeout_ms, [&] {
    return session.closed || !session.events.empty() || !session.task;
  });
  if (session.closed) fail(Status::cancelled, "the session was destroyed while it was read");
  if (!ready) return false;
  if (session.events.empty()) {
    event = Event{};
    return true;
  }
  const bool was_full = session.events.full();
  event = session.events.pop();
  if (was_full) wake();
  return true;
}

void Context::cancel(SessionState& session) noexcept {
  session.cancel_requested = true;
  std::lock_guard guard(lock_);
  if (session.task) interrupt();
}

SessionInfo Context::info(SessionState& session) {
  std::lock_guard guard(lock_);
  SessionInfo info;
  info.generating = session.task.has_value() || !session.events.empty();
  info.tokens = session.tokens;
  info.computed = session.ready() - probed(session);
  info.max_tokens = max_session_tokens_;
  return info;
}

Report Context::report(SessionState& session) {
  std::lock_guard guard(lock_);
  return session.report;
}

std::vector<int32_t> Context::tokens(SessionState& session) {
  std::lock_guard guard(lock_);
  std::vector<int32_t> all;
  all.reserve(session.tokens);
  for (const Segment& segment : session.segments) {
    const std::span<const int32_t> text = segment.text();
    all.insert(all.end(), text.begin(), text.end());
  }
  return all;
}

}  // namespace tessera::engine
