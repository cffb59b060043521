// The engine thread: continuous batching of all sessions' decode rows with slices of prompts. What
// goes wrong for one session ends its task only; what goes wrong for a step, those of its sessions.
#include <algorithm>

#include "runtime/engine/attempt.hpp"
#include "runtime/engine/page_access.hpp"

namespace tessera::engine {
namespace {

uint64_t pending_tokens(const SessionState& session) {
  uint64_t pending = 0;
  for (const Segment& segment : session.segments) pending += segment.pending();
  return pending;
}

// Selected tokens that are to be computed again.
uint64_t pending_repairs(const SessionState& session) {
  uint64_t pending = 0;
  for (const Segment& segment : session.segments) {
    if (segment.overlay()) pending += segment.pending();
  }
  return pending;
}

// A step of fewer rows takes little longer than one of a single row: the weights are read once.
constexpr uint64_t kFewRows = 64;

bool is_out_of_memory(Status status) {
  return status == Status::out_of_host_memory || status == Status::out_of_device_memory;
}

}  // namespace

void Context::run() {
  std::unique_lock guard(lock_);
  while (!stopping_) {
    if (disk_) take_loads(guard);
    if (stopping_) break;  // the lock was free meanwhile
    if (page_users_ > 0) {
      forget_ended();
      work_.wait(guard);
      continue;
    }
    const bool storing = disk_ && store_one();
    settle_sessions();
    std::vector<Participant> participants = choose();
    if (participants.empty()) {
      // A task that ended just now may be what another session waits for.
      if (!unsettled_ && !storing) work_.wait(guard);
      continue;
    }
    attempt(
        [&] {
          const Step step = build(participants);
          if (step.rows() == 0) return;
          StepResult result;
          compute(guard, step, participants, result);
          was_stopped_ = result.stopped;
          if (was_stopped_) return;  // blocks that it was given wait for the next step
          ++counts_.steps;
          for (const Participant& p : participants) p.session->turn = ++last_turn_;
          apply(participants, result);
        },
        [&](Status status, std::string_view message) {
          step_failed(guard, participants, status, message);
        });
  }
}

void Context::settle_sessions() noexcept {
  unsettled_ = false;
  for (const SessionRef& session : active_) {
    attempt(
        [&] { settle(*session); },
        [&](Status status, std::string_view message) { fail_session(*session, status, message); });
  }
  forget_ended();
}

// Before the lock is free: a session whose task has ended may begin the next.
void Context::forget_ended() noexcept {
  std::erase_if(active_, [](const SessionRef& session) { return !session->task; });
}

// Ends the session's task if it was cancelled or the session destroyed; takes canonical texts and
// prefix runs that became ready.
void Context::settle(SessionState& session) {
  if (!session.task) return;
  if (session.closed) {
    end_task(session);
    return;
  }
  if (session.cancel_requested) {
    finish(session, Finish::cancelled);
    return;
  }
  if (settle_waiting(session)) return;
  const Task& task = *session.task;
  if (task.decoding) return;
  attach_ready(session);
  for (const Segment& segment : session.segments) {
    if (segment.computed_here() || segment.attached) continue;
    const kv::Canonical& text = *segment.canonical;
    if (text.state == kv::CanonicalState::failed) {
      fail(text.error, "encoding a chunk: " + text.message);
    }
  }
  walk_prefix(session, !(task.purpose == Purpose::evaluate && task.all_logits));
  if (task.probe && !session.options.chosen.empty() && session.all_attached() &&
      pending_tokens(session) == session.segments.back().pending()) {
    select(session);
  }
  reopen_last_token(session);
}

// The next rows of a session, at most `budget`: pending tokens in order, up to a chunk that is not
// ready.
uint32_t Context::plan_rows(const SessionState& session, uint32_t budget,
                            std::vector<SegmentRows>& rows) const {
  uint32_t total = 0;
  if (session.task->stage != EncodeStage::computing) return total;
  for (uint32_t s = 0; s < session.segments.size() && total < budget; ++s) {
    const Segment& segment = session.segments[s];
    if (!segment.computed_here()) {
      if (!segment.attached) break;
      continue;
    }
    // Nothing is to be seen of a question where the choice is given.
    if (probing(session, s) && !session.options.chosen.empty()) break;
    const uint32_t count = std::min(segment.pending(), budget - total);
    if (count == 0) continue;
    rows.push_back({s, count, {}});
    total += count;
  }
  return total;
}

// Decode rows first, then prompts, which are left at least half of the step (of a step of one row,
// every other one), then decode rows again in what prompts did not take.
std::vector<Context::Participant> Context::choose() noexcept {
  std::vector<Participant> chosen;
  const uint64_t count = next_step_++;
  std::ranges::sort(active_, {}, [](const SessionRef& session) { return session->turn; });
  // Not twice in a row, so that the other sessions get on.
  stoppable_ = program_->stoppable() && !was_stopped_;
  const auto decoding = static_cast<uint64_t>(std::ranges::count_if(
      active_, [](const SessionRef& session) { return session->task && session->task->decoding; }));
  const bool prompts = std::ranges::any_of(
      active_, [](const SessionRef& session) { return session->task && !session->task->decoding; });
  // Longer steps are more efficient. They delay nobody who reads an answer where there are prompts
  // only, or so many answers that each waits for several short steps.
  patient_ = stoppable_ && (prompts ? decoding == 0 : decoding > pace_.rows());
  const uint32_t most = pace().rows();
  const uint32_t half = static_cast<uint32_t>((most + count % 2) / 2);
  choose_from(true, prompts ? most - half : most, chosen);
  if (prompts) {
    choose_from(false, most, chosen);
    choose_from(true, most, chosen);
  }
  if (better_later(chosen)) chosen.clear();
  if (alone_ && chosen.size() > 1) chosen.resize(1);
  alone_ = false;
  add_drafts(chosen, count);
  return chosen;
}

// Whether all that could be computed now is a few rows of sessions that wait for files: with what
// stands behind those they are one step instead of two, and the engine is free to take what is
// read.
bool Context::better_later(const std::vector<Participant>& chosen) noexcept {
  if (!disk_) return false;
  uint64_t rows = 0;
  for (const Participant& p : chosen) rows += p.row_count;
  // A full step leaves rows out, perhaps many.
  return rows < std::min<uint64_t>(kFewRows, pace().rows()) &&
         std::ranges::all_of(chosen, [&](const Participant& p) {
           return std::ranges::any_of(p.session->segments, [&](const Segment& segment) {
             if (segment.computed_here() || segment.attached) return false;
             const SessionRef job = encoding_of(segment.canonical->serial);
             return job && job->task->stage == EncodeStage::loading;
           });
         });
}

// Drafts take only rows that nobody else wants, in even shares; another session is first each time.
void Context::add_drafts(std::vector<Participant>& chosen, uint64_t first) noexcept {
  uint64_t left = pace().rows();
  for (const Participant& p : chosen) left -= p.row_count;
  const auto wants = [](const Participant& p) {
    return p.session->task->decoding && p.session->task->lookup;
  };
  uint64_t members = static_cast<uint64_t>(std::ranges::count_if(chosen, wants));
  for (size_t i = 0; i < chosen.size() && left > 0 && members > 0; ++i) {
    Participant& p = chosen[(first + i) % chosen.size()];
    if (!wants(p)) continue;
    attempt([&] { p.draft = draft(*p.session, (left + members - 1) / members); },
            [](Status, std::string_view) {});  // goes on without one
    --members;
    const auto rows = static_cast<uint32_t>(p.draft.size());
    p.rows.back().count += rows;
    p.row_count += rows;
    left -= rows;
  }
}

// At most `rows` tokens that may follow: no more than could become part of the answer and be told
// to its reader, and no end token, which ends the answer before any row behind it counts.
std::vector<int32_t> Context::draft(const SessionState& session, uint64_t rows) const {
  const Task& task = *session.task;
  const uint64_t events_each = task.options.sampling.logprobs > 0 ? 2 : 1;
  const uint64_t tokens = std::min<uint64_t>(task.options.max_tokens - task.generated,
                                             session.events.room() / events_each);
  if (tokens < 2) return {};  // the token behind the draft is one of them
  std::vector<int32_t> draft = task.lookup->draft(task.history, std::min(rows, tokens - 1));
  if (!task.options.ignore_end) {
    const auto end = std::ranges::find_if(
        draft, [&](int32_t token) { return model_->tokenizer().is_end_of_generation(token); });
    draft.erase(end, draft.end());
  }
  return draft;
}

// Adds sessions that decode, or those with prompts, until `most` rows are taken in all: first those
// whose last step is the longest ago.
void Context::choose_from(bool decoding, uint32_t most, std::vector<Participant>& chosen) noexcept {
  uint32_t taken = 0;
  for (const Participant& p : chosen) taken += p.row_count;
  for (size_t i = 0; i < active_.size() && taken < most; ++i) {
    const SessionRef& session = active_[i];
    if (!session->task || session->task->decoding != decoding) continue;
    if (decoding && session->events.full()) continue;  // where nobody reads it pauses
    const bool known =
        std::ranges::any_of(chosen, [&](const Participant& p) { return p.session == session; });
    if (known) continue;
    attempt(
        [&] {
          Participant participant;
          participant.session = session;
          participant.row_count = plan_rows(*session, most - taken, participant.rows);
          if (participant.row_count == 0) return;
          chosen.push_back(std::move(participant));
          taken += chosen.back().row_count;
        },
        [&](Status status, std::string_view message) { fail_session(*session, status, message); });
  }
}

// One step for all; leaves out, and fails, participants for which it cannot be written.
Step Context::build(std::vector<Participant>& participants) {
  StepBuilder builder(pool_->page_slots(), static_cast<uint32_t>(pool_->layout().groups.size()));
  for (Participant& p : participants) {
    const StepBuilder::Mark mark = builder.mark();
    attempt([&] { add_to(builder, p); },
            [&](Status status, std::string_view message) {
              builder.rewind(mark);
              p.row_count = 0;
              fail_session(*p.session, status, message);
            });
  }
  std::erase_if(participants, [](const Participant& p) { return p.row_count == 0; });
  return std::move(builder.step());
}

// Gives the participant's rows their blocks, writes its sequence and what it wants to know.
void Context::add_to(StepBuilder& builder, Participant& p) {
  SessionState& session = *p.session;
  for (const SegmentRows& rows : p.rows) {
    const Segment& segment = session.segments[rows.segment];
    const bool repairs = segment.repairs || segment.overlay() || probing(session, rows.segment);
    p.repair_rows += repairs ? rows.count : 0;
    kv::Span& span = session.segments[rows.segment].span;
    const uint64_t blocks = pool_->blocks_for(uint64_t{span.slots} + rows.count);
    if (blocks > span.blocks.size()) span.reserve(blocks - span.blocks.size());
    keep_to_itself(session, span);
    while (span.blocks.size() < blocks) span.append(take_block(session), 0);
  }
  if (!p.draft.empty()) p.rows.back().draft = p.draft;
  p.first_row = builder.add_sequence(session.segments, p.rows);
  Step& step = builder.step();
  std::vector<LogitsRequest>& wanted = step.logits;
  p.first_request = static_cast<uint32_t>(wanted.size());
  Task& task = *session.task;
  if (task.prompt_begun == Clock::time_point{}) task.prompt_begun = Clock::now();
  const bool complete = pending_tokens(session) + p.draft.size() == p.row_count;
  if (task.probe) request_masses(step, p);
  if (task.purpose == Purpose::generate && complete && !task.probe) {
    request_samples(step, p);
  } else if (task.purpose == Purpose::evaluate) {
    uint32_t row = p.first_row;
    for (const SegmentRows& rows : p.rows) {
      const Segment& segment = session.segments[rows.segment];
      const kv::Span& span = segment.span;
      if (segment.overlay() || probing(session, rows.segment)) {
        row += rows.count;
        continue;
      }
      uint64_t token = static_cast<uint64_t>(span.logical_start) + span.slots;
      for (const uint32_t end = row + rows.count; row < end; ++row, ++token) {
        if (token < task.first_logits) continue;
        LogitsRequest request;
        request.row = row;
        request.full = true;
        wanted.push_back(request);
      }
    }
  }
  p.request_count = static_cast<uint32_t>(wanted.size()) - p.first_request;
}

// What to know of the last token's row and of the draft's rows, each as if the draft before it was
// part of the answer.
void Context::request_samples(Step& step, const Participant& p) {
  Task& task = *p.session->task;
  const auto drafted = static_cast<uint32_t>(p.draft.size());
  const uint32_t first_row = p.first_row + p.row_count - 1 - drafted;
  for (uint32_t i = 0; i <= drafted; ++i) {
    LogitsRequest request = sampling_request(first_row + i, task.options.sampling,
                                             model_->hyperparameters().vocabulary);
    if (task.penalties) {
      if (i > 0) {
        task.history.push_back(p.draft[i - 1]);
        task.penalties->push(task.history);
      }
      request.first_adjustment = static_cast<uint32_t>(step.adjustments.size());
      task.penalties->append_to(step.adjustments);
      request.adjustment_count =
          static_cast<uint32_t>(step.adjustments.size()) - request.first_adjustment;
    }
    step.logits.push_back(request);
  }
  if (!task.penalties) return;
  for (uint32_t i = 0; i < drafted; ++i) {
    task.penalties->pop(task.history);
    task.history.pop_back();
  }
}

// Runs the step and draws tokens; the lock is free meanwhile. Nobody else ends the participants'
// tasks or changes what is read of them here.
void Context::compute(std::unique_lock<std::mutex>& guard, const Step& step,
                      std::vector<Participant>& participants, StepResult& result) {
  forget_ended();
  const Unlocked unlocked(*this, guard, &Context::computing_);
  const Clock::time_point begun = Clock::now();
  program_->plan(step);
  program_->submit();
  program_->wait(result);
  if (result.stopped) return;
  for (Participant& p : participants) {
    draw(p, std::span(result.logits).subspan(p.first_request, p.request_count));
  }
  const Clock::duration taken = Clock::now() - begun;
  for (Participant& p : participants) p.repair_time = taken * p.repair_rows / step.rows();
  pace().note(step.rows(), taken);
}

// An answer's next token and those behind it, as long as they are the draft's.
void Context::draw(Participant& p, std::span<const LogitsResult> logits) noexcept {
  const Task& task = *p.session->task;
  if (task.purpose != Purpose::generate) return;
  try {
    for (size_t i = 0; i < logits.size(); ++i) {
      p.tokens.push_back(sample(logits[i], task.options.sampling, task.generated + i));
      if (i < p.draft.size() && p.tokens.back() != p.draft[i]) return;
    }
  } catch (...) {
    p.error = std::current_exception();
  }
}

void Context::apply(std::vector<Participant>& participants, StepResult& result) noexcept {
  for (Participant& p : participants) {
    if (p.session->closed) continue;
    attempt([&] { apply_to(p, result); },
            [&](Status status, std::string_view message) {
              fail_session(*p.session, status, message);
            });
  }
}

void Context::apply_to(Participant& p, StepResult& result) {
  SessionState& session = *p.session;
  Task& task = *session.task;
  take_masses(p, result);
  for (const SegmentRows& rows : p.rows) {
    Segment& segment = session.segments[rows.segment];
    const auto known = rows.count - static_cast<uint32_t>(rows.draft.size());
    segment.span.extend(known, pool_->page_slots());
    (segment.exact ? session.ready_exact : session.ready_approximate) += known;
    if (segment.repairs || segment.overlay()) task.repaired += known;
  }
  counts_.computed_tokens += p.row_count;
  task.repair_time += p.repair_time;
  walk_prefix(session, false);
  if (task.probe && pending_tokens(session) == 0) select(session);
  const std::span<LogitsResult> logits =
      std::span(result.logits).subspan(p.first_request, p.request_count);
  const bool complete = pending_tokens(session) == 0;
  switch (task.purpose) {
    case Purpose::encode:
      if (complete) {
        finish_encode(session, Status::ok);
        end_task(session);
      }
      break;
    case Purpose::evaluate:
      for (const LogitsResult& row : logits) {
        task.logits.insert(task.logits.end(), row.full.begin(), row.full.end());
      }
      if (complete) {
        task.first_token = Clock::now();
        question_over(session, session.last_start());
        fill_report(session);
        session.ended = Event{};
        session.ended_logits = std::move(task.logits);
        end_task(session);
      }
      break;
    case Purpose::generate:
      if (!task.decoding) {  // replaces what nobody has read yet
        PreparedEvent event(1);
        event.front().kind = EventKind::progress;
        event.front().processed = session.ready() - probed(session) + pending_repairs(session);
        event.front().total = task.prompt_tokens;
        emit(session, std::move(event));
      }
      if (!logits.empty()) tokens_ready(p, logits);
      break;
  }
}

// Where memory is short for several sessions, one of them is tried alone. A device that is lost
// takes all sessions along and stays lost. The lock is free while the log is called: the
// application may wait there for a thread that is inside a call.
void Context::step_failed(std::unique_lock<std::mutex>& guard,
                          const std::vector<Participant>& participants, Status status,
                          std::string_view message) noexcept {
  if (is_out_of_memory(status) && participants.size() > 1) {
    alone_ = true;
    return;
  }
  if (status == Status::device_lost) {
    failure_ = status;
    stored_.notify_all();
    attempt([&] { failure_message_ = message; }, [](Status, std::string_view) {});
    for (const SessionRef& session : active_) fail_session(*session, status, message);
  } else {
    for (const Participant& p : participants) fail_session(*p.session, status, message);
  }
  if (!log_error_) return;
  forget_ended();
  guard.unlock();
  attempt([&] { log_error_(std::string(message)); }, [](Status, std::string_view) {});
  guard.lock();
}

void Context::wake() {
  work_.notify_all();
}

// A session that is cancelled or destroyed does not wait for the end of a step.
void Context::interrupt() noexcept {
  if (computing_ && stoppable_) program_->stop();
  wake();
}

}  // namespace tessera::engine
