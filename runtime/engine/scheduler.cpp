// The engine thread: continuous batching of all sessions' decode rows with slices of prompts.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {
namespace {

uint64_t microseconds(Clock::time_point from, Clock::time_point to) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(to - from).count());
}

uint64_t pending_tokens(const SessionState& session) {
  uint64_t pending = 0;
  for (const Segment& segment : session.segments) pending += segment.pending();
  return pending;
}

}  // namespace

void Context::run() {
  std::unique_lock guard(lock_);
  while (!stopping_) {
    std::vector<Participant> participants;
    Status status = Status::ok;
    std::string message;
    try {
      settle_sessions();
      participants = choose();
      if (participants.empty()) {
        work_.wait(guard);
        continue;
      }
      const Step step = build(participants);
      if (step.rows() == 0) continue;
      StepResult result;
      guard.unlock();
      try {
        program_->plan(step);
        program_->submit();
        program_->wait(result);
      } catch (...) {
        guard.lock();
        throw;
      }
      guard.lock();
      ++counts_.steps;
      apply(participants, result);
    } catch (const Error& error) {
      status = error.status();
      message = error.what();
    } catch (const std::bad_alloc&) {
      status = Status::out_of_host_memory;
      message = "out of host memory while computing a step";
    } catch (const std::exception& error) {
      status = Status::internal;
      message = error.what();
    }
    if (status == Status::ok) continue;
    if (log_error_) log_error_(message);
    if (status == Status::device_lost) {
      failure_ = status;
      failure_message_ = message;
      for (const SessionRef& session : std::vector(active_)) {
        if (session->task) fail_session(*session, status, message);
      }
    } else if (!participants.empty()) {
      for (const Participant& p : participants) {
        if (p.session->task) fail_session(*p.session, status, message);
      }
    } else {
      // Not a step's fault: the session that cannot even be settled would stop all others.
      for (const SessionRef& session : std::vector(active_)) {
        if (session->task) fail_session(*session, status, message);
      }
    }
  }
}

// Ends what was cancelled or destroyed, takes canonical texts that became ready, and forgets
// sessions without a task.
void Context::settle_sessions() {
  for (const SessionRef& session : std::vector(active_)) {
    if (!session->task) continue;
    if (session->closed) {
      end_task(*session);
      continue;
    }
    if (session->cancel_requested) {
      finish(*session, Finish::cancelled);
      continue;
    }
    attach_ready(*session);
    for (const Segment& segment : session->segments) {
      if (segment.computed_here() || segment.attached) continue;
      const kv::Canonical& text = *segment.canonical;
      if (text.state == kv::CanonicalState::failed) {
        fail_session(*session, text.error, "encoding a chunk: " + text.message);
        break;
      }
    }
    if (session->task) {
      const Task& task = *session->task;
      walk_prefix(*session, !(task.purpose == Purpose::evaluate && task.all_logits));
    }
  }
  std::erase_if(active_, [](const SessionRef& session) { return !session->task; });
}

// The next rows of a session, at most `budget`: pending tokens in order, up to a chunk that is not
// ready.
uint32_t Context::plan_rows(SessionState& session, uint32_t budget,
                            std::vector<SegmentRows>& rows) const {
  uint32_t total = 0;
  for (uint32_t s = 0; s < session.segments.size() && total < budget; ++s) {
    const Segment& segment = session.segments[s];
    if (!segment.computed_here()) {
      if (!segment.attached) break;
      continue;
    }
    const uint32_t count = std::min(segment.pending(), budget - total);
    if (count == 0) continue;
    rows.push_back({s, count});
    total += count;
  }
  return total;
}

// Decode rows first, then prompts, which are left at least half of the step; both in turn.
std::vector<Context::Participant> Context::choose() {
  std::vector<Participant> chosen;
  if (active_.empty()) return chosen;
  const bool prompts = std::ranges::any_of(
      active_, [](const SessionRef& session) { return !session->task->decoding; });
  uint32_t left = max_rows_;
  const uint32_t kept_for_prompts = prompts ? max_rows_ / 2 : 0;
  const size_t first = next_turn_++ % active_.size();
  for (const bool decoding : {true, false}) {
    for (size_t i = 0; i < active_.size(); ++i) {
      const SessionRef& session = active_[(first + i) % active_.size()];
      if (session->task->decoding != decoding) continue;
      if (decoding && session->events.full()) continue;  // nobody reads: it pauses
      const uint32_t budget = decoding ? left - std::min(left, kept_for_prompts) : left;
      if (budget == 0) break;
      Participant participant;
      participant.session = session;
      participant.row_count = plan_rows(*session, budget, participant.rows);
      if (participant.row_count == 0) continue;
      left -= participant.row_count;
      chosen.push_back(std::move(participant));
    }
  }
  return chosen;
}

Step Context::build(std::vector<Participant>& participants) {
  const uint32_t page_slots = pool_->page_slots();
  StepBuilder builder(page_slots, static_cast<uint32_t>(pool_->layout().groups.size()));
  const uint32_t vocabulary = model_->hyperparameters().vocabulary;
  for (Participant& p : participants) {
    SessionState& session = *p.session;
    for (const SegmentRows& rows : p.rows) {
      kv::Span& span = session.segments[rows.segment].span;
      while (span.blocks.size() * page_slots < span.slots + rows.count) {
        span.masks.resize(span.blocks.size() + 1, 0);
        span.blocks.push_back(take_block(session));
      }
    }
    p.first_row = builder.add_sequence(session.segments, p.rows);
    p.first_request = static_cast<uint32_t>(builder.step().logits.size());
    Task& task = *session.task;
    if (task.prompt_begun == Clock::time_point{}) task.prompt_begun = Clock::now();
    const bool complete = pending_tokens(session) == p.row_count;
    const uint32_t last_row = p.first_row + p.row_count - 1;
    if (task.purpose == Purpose::generate && complete) {
      builder.step().logits.push_back(
          sampling_request(last_row, task.options.sampling, vocabulary));
    } else if (task.purpose == Purpose::evaluate) {
      for (uint32_t row = task.all_logits ? p.first_row : last_row; row <= last_row; ++row) {
        if (!task.all_logits && !complete) break;
        LogitsRequest request;
        request.row = row;
        request.full = true;
        builder.step().logits.push_back(request);
      }
    }
    p.request_count = static_cast<uint32_t>(builder.step().logits.size()) - p.first_request;
  }
  return std::move(builder.step());
}

void Context::apply(std::vector<Participant>& participants, StepResult& result) {
  for (Participant& p : participants) {
    if (!p.session->task || p.session->closed) continue;
    apply_to(p, result);
  }
}

void Context::apply_to(Participant& p, StepResult& result) {
  SessionState& session = *p.session;
  for (const SegmentRows& rows : p.rows) {
    Segment& segment = session.segments[rows.segment];
    segment.span.extend(rows.count, pool_->page_slots());
    (segment.exact ? session.ready_exact : session.ready_approximate) += rows.count;
  }
  counts_.computed_tokens += p.row_count;
  Task& task = *session.task;
  walk_prefix(session, false);
  const std::span<LogitsResult> logits =
      std::span(result.logits).subspan(p.first_request, p.request_count);
  const bool complete = pending_tokens(session) == 0;
  switch (task.purpose) {
    case Purpose::encode:
      if (complete) {
        finish_encode(session, Status::ok, "");
        end_task(session);
      }
      break;
    case Purpose::evaluate:
      for (const LogitsResult& row : logits) {
        task.logits.insert(task.logits.end(), row.full.begin(), row.full.end());
      }
      if (complete) {
        task.first_token = Clock::now();
        fill_report(session);
        session.ended_status = Status::ok;
        session.ended_logits = std::move(task.logits);
        end_task(session);
      }
      break;
    case Purpose::generate:
      if (!task.decoding && !(session.events.full() && !complete)) {
        Event event;
        event.kind = EventKind::progress;
        event.processed = session.ready();
        event.total = task.prompt_tokens;
        session.events.push(std::move(event));
        session.changed.notify_all();
        events_.notify_all();
      }
      if (!logits.empty()) token_ready(session, logits.front());
      break;
  }
}

void Context::token_ready(SessionState& session, const LogitsResult& logits) {
  Task& task = *session.task;
  const text::Tokenizer& tokenizer = model_->tokenizer();
  const Clock::time_point now = Clock::now();
  const int32_t token = sample(logits, task.options.sampling, task.generated);
  if (!task.decoding) {
    task.decoding = true;
    task.first_token = now;
    fill_report(session);
  }
  session.report.generate_us = microseconds(task.first_token, now);
  if (!task.options.ignore_end && tokenizer.is_end_of_generation(token)) {
    finish(session, Finish::end);
    return;
  }
  append_tokens(session, std::span(&token, 1));
  ++task.generated;
  ++counts_.generated_tokens;
  session.report.tokens_generated = task.generated;
  const std::string bytes = tokenizer.decode(std::span(&token, 1), false);
  text::StopMatcher::Output output = task.stops.push(task.decoder.push(bytes));
  emit_text(session, output.text);
  if (output.stopped) {
    finish(session, Finish::stop);
  } else if (task.generated == task.options.max_tokens) {
    finish(session, Finish::length);
  }
}

void Context::emit_text(SessionState& session, const std::string& text) {
  if (text.empty()) return;
  Event event;
  event.kind = EventKind::text;
  event.text = text;
  event.tokens = session.task->generated;
  session.events.push(std::move(event));
  session.changed.notify_all();
  events_.notify_all();
}

// Ends the task with its last event.
void Context::finish(SessionState& session, Finish finish) {
  Task& task = *session.task;
  if (task.purpose == Purpose::encode) {
    fail_session(session, Status::cancelled, "the encoding was cancelled");
    return;
  }
  if (task.purpose == Purpose::evaluate) {
    fail_session(session, Status::cancelled, "the evaluation was cancelled");
    return;
  }
  if (finish != Finish::stop) {
    text::StopMatcher::Output output = task.stops.push(task.decoder.flush());
    emit_text(session, output.text + task.stops.flush());
  }
  Event event;
  event.kind = EventKind::done;
  event.finish = finish;
  event.tokens = task.generated;
  session.events.push(std::move(event));
  end_task(session);
}

// The session keeps what it has; tokens without KV are computed by its next task.
void Context::fail_session(SessionState& session, Status status, const std::string& message) {
  const Task& task = *session.task;
  if (task.purpose == Purpose::encode) {
    finish_encode(session, status, message);
  } else if (task.purpose == Purpose::evaluate) {
    session.ended_status = status;
    session.ended_message = message;
  } else {
    Event event;
    event.kind = EventKind::failed;
    event.status = status;
    event.text = message;
    event.tokens = task.generated;
    session.events.push(std::move(event));
  }
  end_task(session);
}

void Context::end_task(SessionState& session) {
  const bool encode = session.task->purpose == Purpose::encode;
  release_reservation(session);
  session.task.reset();
  if (encode || session.closed) {
    unpin(session);
    session.segments.clear();
  }
  session.changed.notify_all();
  events_.notify_all();
}

// At the first token: where the prompt's tokens came from.
void Context::fill_report(SessionState& session) {
  const Task& task = *session.task;
  Report& report = session.report;
  report.tokens_exact = task.reused_exact;
  report.tokens_approximate = task.reused_approximate;
  report.tokens_computed = task.prompt_tokens - task.reused_exact - task.reused_approximate;
  report.lookup_us = microseconds(task.begun, task.prompt_begun);
  report.prompt_us = microseconds(task.prompt_begun, task.first_token);
  report.first_token_us = microseconds(task.begun, task.first_token);
  for (const Segment& segment : session.segments) {
    for (const kv::BlockRef& block : segment.span.blocks) {
      const bool shared = !segment.computed_here() || block.use_count() > 1;
      (shared ? report.bytes_shared : report.bytes_private) += pool_->block_bytes();
    }
  }
}

}  // namespace tessera::engine
