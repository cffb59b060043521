// An answer as it grows: the next token, its text, the events that tell of it and the end.
#include <algorithm>

#include "runtime/engine/context.hpp"
#include "runtime/text/utf8.hpp"

namespace tessera::engine {
namespace {

uint64_t microseconds(Clock::time_point from, Clock::time_point to) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(to - from).count());
}

// Whether one of `segments` that are pieces of the same chunk holds the block.
bool holds(std::span<const Segment> segments, const Segment& piece, const kv::BlockRef& block) {
  return std::ranges::any_of(segments, [&](const Segment& other) {
    return !other.computed_here() && other.canonical == piece.canonical &&
           std::ranges::find(other.span.blocks, block) != other.span.blocks.end();
  });
}

PreparedEvent text_event(std::string text, uint64_t tokens) {
  PreparedEvent event(1);
  event.front().kind = EventKind::text;
  event.front().text = std::move(text);
  event.front().tokens = tokens;
  return event;
}

PreparedEvent token_event(TokenReport token, uint64_t tokens) {
  PreparedEvent event(1);
  event.front().kind = EventKind::token;
  event.front().token = std::move(token);
  event.front().tokens = tokens;
  return event;
}

}  // namespace

// The next token and, as long as the tokens are those of the draft, whose KV the same step has
// computed, those behind it. logits[i] is what follows draft[i - 1]. Throws what drawing threw.
void Context::tokens_ready(const Participant& p, std::span<const LogitsResult> logits) {
  if (p.error) std::rethrow_exception(p.error);
  SessionState& session = *p.session;
  const std::vector<int32_t>& draft = p.draft;
  session.report.tokens_drafted += draft.size();
  counts_.drafted_tokens += draft.size();
  size_t accepted = 0;
  for (size_t i = 0;; ++i) {
    token_ready(session, p.tokens[i], logits[i]);
    const bool agrees = i < draft.size() && p.tokens[i] == draft[i];
    if (agrees) {
      ++accepted;
      ++session.report.tokens_accepted;
      ++counts_.accepted_tokens;
    }
    if (!session.task) return;
    if (!agrees || session.cancel_requested) break;
    Segment& last = session.segments.back();
    last.span.extend(1, pool_->page_slots());
    ++(last.exact ? session.ready_exact : session.ready_approximate);
    walk_prefix(session, false);
  }
  if (!draft.empty()) session.task->lookup->settle(session.task->history, accepted);
}

// A token may end the task. If this throws, it is not part of the session.
void Context::token_ready(SessionState& session, int32_t token, const LogitsResult& logits) {
  Task& task = *session.task;
  const text::Tokenizer& tokenizer = model_->tokenizer();
  const Clock::time_point now = Clock::now();
  if (!task.decoding) {
    task.decoding = true;
    task.first_token = now;
    question_over(session, session.last_start());
    fill_report(session);
  }
  session.report.generate_us = microseconds(task.first_token, now);
  if (!task.options.ignore_end && tokenizer.is_end_of_generation(token)) {
    finish(session, Finish::end);
    return;
  }
  const std::string bytes = tokenizer.decode(std::span(&token, 1), false);
  text::StopMatcher::Output output = task.stops.push(task.decoder.push(bytes));
  PreparedEvent event = text_event(std::move(output.text), task.generated + 1);
  PreparedEvent told;
  if (task.options.sampling.logprobs > 0) {
    told = token_event(report_token(logits, task.options.sampling, token), task.generated + 1);
  }
  if (task.penalties || task.lookup) {
    task.history.push_back(token);
    if (task.penalties) task.penalties->push(task.history);
    if (task.lookup) task.lookup->push(task.history);
  }
  append_tokens(session, std::span(&token, 1));
  ++task.generated;
  ++counts_.generated_tokens;
  session.report.tokens_generated = task.generated;
  if (!told.empty()) emit(session, std::move(told));
  if (!event.front().text.empty()) emit(session, std::move(event));
  if (output.stopped) {
    finish(session, Finish::stop);
  } else if (task.generated == task.options.max_tokens) {
    finish(session, Finish::length);
  }
}

void Context::emit(SessionState& session, PreparedEvent event) noexcept {
  session.events.push(std::move(event));
  session.changed.notify_all();
  events_.notify_all();
}

// Ends the task with its last event.
void Context::finish(SessionState& session, Finish finish) {
  Task& task = *session.task;
  if (task.purpose != Purpose::generate) {
    fail_session(session, Status::cancelled,
                 task.purpose == Purpose::encode ? "the encoding was cancelled"
                                                 : "the evaluation was cancelled");
    return;
  }
  if (finish != Finish::stop) {
    text::StopMatcher::Output output = task.stops.push(task.decoder.flush());
    PreparedEvent rest = text_event(output.text + task.stops.flush(), task.generated);
    if (!rest.front().text.empty()) emit(session, std::move(rest));
  }
  Event& event = task.last_event.front();
  event.kind = EventKind::done;
  event.finish = finish;
  event.tokens = task.generated;
  session.events.push(std::move(task.last_event));
  end_task(session);
}

// The session keeps what it has; tokens without KV are computed by its next task. Nothing where no
// task is under way.
void Context::fail_session(SessionState& session, Status status,
                           std::string_view message) noexcept {
  if (!session.task) return;
  Task& task = *session.task;
  Event& event = task.last_event.front();
  event.kind = EventKind::failed;
  event.status = status;
  event.tokens = task.generated;
  message = message.substr(0, event.text.capacity());
  event.text.assign(message.substr(0, text::utf8_complete_prefix(message)));
  switch (task.purpose) {
    case Purpose::encode:
      finish_encode(session, status);
      break;
    case Purpose::evaluate:
      session.ended = std::move(event);
      break;
    case Purpose::generate:
      session.events.push(std::move(task.last_event));
      break;
  }
  end_task(session);
}

void Context::end_task(SessionState& session) noexcept {
  const Purpose purpose = session.task->purpose;
  const bool encode = purpose == Purpose::encode;
  if (session.task->probe) drop_probe(session);
  // What looks at a session's last page later takes it for that of the last token.
  release_unused(session);
  if (!encode && session.task->first_token == Clock::time_point{}) fill_report(session);
  // An evaluation that failed owes the logits still.
  if (purpose == Purpose::generate ||
      (purpose == Purpose::evaluate && session.ended.kind != EventKind::failed)) {
    session.settled = session.tokens;
  }
  release_reservation(session);
  session.task.reset();
  if (encode || session.closed) drop_context(session);
  unsettled_ = true;
  session.changed.notify_all();
  events_.notify_all();
}

// Where the prompt's tokens came from: at the first token, or where a task ends before it.
void Context::fill_report(SessionState& session) noexcept {
  constexpr Clock::time_point kNever;
  const Task& task = *session.task;
  const Clock::time_point ready = task.first_token != kNever ? task.first_token : Clock::now();
  const Clock::time_point begun = task.prompt_begun != kNever ? task.prompt_begun : ready;
  Report& report = session.report;
  report.tokens_exact = task.reused_exact;
  report.tokens_approximate = task.reused_approximate;
  report.tokens_repaired = task.repaired;
  report.tokens_computed =
      session.ready() - task.reused_exact - task.reused_approximate - task.repaired;
  report.repair_us = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(task.repair_time).count());
  report.load_us = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(task.load_time).count());
  report.lookup_us = microseconds(task.begun, begun);
  report.lookup_us -= std::min(report.lookup_us, report.load_us);
  report.prompt_us = microseconds(begun, ready);
  if (task.first_token != kNever) report.first_token_us = microseconds(task.begun, ready);
  for (size_t s = 0; s < session.segments.size(); ++s) {
    const Segment& segment = session.segments[s];
    const auto before = std::span(session.segments).first(s);
    for (const kv::BlockRef& block : segment.span.blocks) {
      // A chunk that stands in the session more than once has its pages once.
      if (!segment.computed_here() && holds(before, segment, block)) continue;
      const bool shared = !segment.computed_here() || block.use_count() > 1;
      (shared ? report.bytes_shared : report.bytes_private) += pool_->block_bytes();
    }
  }
}

}  // namespace tessera::engine
