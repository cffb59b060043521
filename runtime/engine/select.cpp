// Select: the tokens that a question looks at most are computed once more behind all that stands
// before them, and hide the chunks' own. First the question is computed as if nothing was selected,
// only to see what it attends to (the probe); heads are computed in the same steps. Masses are
// integers, so that slices and other sessions change no choice.
#include <algorithm>
#include <cmath>

#include "runtime/engine/context.hpp"

namespace tessera::engine {
namespace {

// Whether a question chooses among the segment's tokens.
bool is_candidate(const SessionOptions& options, const Segment& segment) {
  return segment.kind == SegmentKind::shared && !segment.exact &&
         (!segment.selected_from || options.reselect);
}

// A chunk's token, by its logical position.
struct Place {
  uint32_t segment;
  uint32_t slot;
};

Place place_of(const SessionState& session, uint32_t position) {
  for (uint32_t s = 0; s < session.segments.size(); ++s) {
    const Segment& segment = session.segments[s];
    if (segment.kind != SegmentKind::shared) continue;
    const int64_t slot = int64_t{position} - segment.span.logical_start;
    if (slot >= 0 && slot < segment.span.slots) return {s, static_cast<uint32_t>(slot)};
  }
  fail(Status::internal, "a selected token stands in no chunk");
}

struct Pick {
  uint64_t mass;
  uint32_t position;
};

}  // namespace

// How many tokens a question behind these segments selects.
uint32_t Context::tokens_to_select(const SessionOptions& options,
                                   std::span<const Segment> segments) {
  if (!options.selects()) return 0;
  uint64_t tokens = 0, candidates = 0;
  for (const Segment& segment : segments) {
    if (!is_candidate(options, segment)) continue;
    tokens += segment.skip + segment.length;
    candidates += segment.length;
  }
  // In floats: a tenth of 10 is 1, also where the share is a little less than a tenth.
  const auto share = static_cast<uint64_t>(static_cast<float>(tokens) * options.select_share);
  const uint64_t wanted = options.chosen.empty() ? share : options.chosen.size();
  return static_cast<uint32_t>(std::min(wanted, candidates));
}

// A task begins with a probe where chunks that nothing was selected from stand before its text, and
// the text is a question: not just the answer to one, which goes on.
void Context::plan_probe(SessionState& session) {
  const Segment& question = session.segments.back();
  if (!session.asks) return;
  if (question.kind != SegmentKind::text || question.pending() == 0) return;
  Probe probe;
  probe.question = static_cast<uint32_t>(session.segments.size() - 1);
  probe.kept = question.span.slots;
  probe.budget = tokens_to_select(session.options, session.segments);
  if (probe.budget == 0) return;
  for (const Segment& segment : session.segments) {
    if (segment.overlay()) probe.left += segment.pending();
  }
  session.task->probe = std::move(probe);
}

// Whether the segment is a question whose KV will be dropped.
bool Context::probing(const SessionState& session, uint32_t segment) {
  return session.task && session.task->probe && session.task->probe->question == segment;
}

// Tokens of a question whose KV will be dropped.
uint64_t Context::probed(const SessionState& session) {
  if (!session.task || !session.task->probe) return 0;
  const Probe& probe = *session.task->probe;
  return session.segments[probe.question].span.slots - probe.kept;
}

void Context::request_masses(Step& step, Participant& p) const {
  const SessionState& session = *p.session;
  const auto layers = static_cast<double>(model_->hyperparameters().layers);
  const double choosing =
      std::clamp(std::round(layers * session.options.select_layers), 1., layers);
  uint32_t row = p.first_row;
  for (const SegmentRows& rows : p.rows) {
    if (probing(session, rows.segment)) {
      MassRequest request;
      request.sequence = static_cast<uint32_t>(step.sequences.size() - 1);
      request.first_row = row;
      request.rows = rows.count;
      request.first_layer = static_cast<uint32_t>(layers - choosing);
      p.mass_request = static_cast<uint32_t>(step.mass_requests.size());
      step.mass_requests.push_back(request);
    }
    row += rows.count;
  }
}

// Adds what the step's rows looked at. The step's spans are the segments', its new rows included.
void Context::take_masses(const Participant& p, const StepResult& result) {
  if (p.mass_request == UINT32_MAX) return;
  const SessionState& session = *p.session;
  Probe& probe = *p.session->task->probe;
  const std::vector<uint64_t>& masses = result.masses[p.mass_request];
  probe.masses.resize(probe.question);
  size_t at = 0, next = 0;
  for (uint32_t s = 0; s < probe.question; ++s) {
    uint32_t slots = session.segments[s].span.slots;
    if (next < p.rows.size() && p.rows[next].segment == s) slots += p.rows[next++].count;
    std::vector<uint64_t>& sums = probe.masses[s];
    sums.resize(slots);
    for (uint32_t i = 0; i < slots; ++i) sums[i] += masses[at + i];
    at += slots;
  }
}

void Context::drop_probe(SessionState& session) noexcept {
  const Probe& probe = *session.task->probe;
  Segment& question = session.segments[probe.question];
  const uint32_t dropped = question.span.slots - probe.kept;
  question.span.empty_behind(probe.kept, pool_->page_slots());
  (question.exact ? session.ready_exact : session.ready_approximate) -= dropped;
  session.task->probe.reset();
}

// Ends the probe: the tokens it chose, and the question again, are what is left to compute.
void Context::select(SessionState& session) {
  const std::vector<uint32_t> positions = choose_positions(session);
  const Segment overlay = overlay_of(session, positions);
  session.segments.reserve(session.segments.size() + 1);
  std::vector<Segment> added(positions.empty() ? 0 : 1, overlay);

  const Probe& probe = *session.task->probe;
  const auto start = static_cast<uint32_t>(session.segments[probe.question].span.logical_start);
  const uint32_t asked_at = start + probe.kept;

  // Nothing fails from here on.
  const uint32_t left = probe.left;
  drop_probe(session);
  if (session.options.reselect) put_back_selected(session, left);
  question_over(session, asked_at);
  if (added.empty()) return;
  hide_selected(session, positions);
  added.front().selected_at = asked_at;
  session.segments.insert(session.segments.end() - 1, std::move(added.front()));
  // What the question sees now is this session's own.
  leave_runs(session, asked_at);
}

// Ascending.
std::vector<uint32_t> Context::choose_positions(const SessionState& session) const {
  const Probe& probe = *session.task->probe;
  const std::vector<uint32_t>& given = session.options.chosen;
  std::vector<Pick> picks;
  for (uint32_t s = 0; s < probe.question; ++s) {
    const Segment& segment = session.segments[s];
    if (!is_candidate(session.options, segment) &&
        !(segment.overlay() && session.options.reselect)) {
      continue;
    }
    for (uint32_t slot = 0; slot < segment.span.slots; ++slot) {
      if (!segment.span.valid(slot, pool_->page_slots())) continue;
      const auto position = static_cast<uint32_t>(segment.span.position(slot));
      if (!given.empty() && std::ranges::find(given, position) == given.end()) continue;
      picks.push_back({given.empty() ? probe.masses[s][slot] : 0, position});
    }
  }
  std::ranges::sort(picks, [](const Pick& a, const Pick& b) {
    return a.mass != b.mass ? a.mass > b.mass : a.position < b.position;
  });
  picks.resize(std::min<size_t>(picks.size(), probe.budget));
  std::vector<uint32_t> positions;
  for (const Pick& pick : picks) positions.push_back(pick.position);
  std::ranges::sort(positions);
  return positions;
}

// The segment of these tokens, with nothing computed.
Segment Context::overlay_of(const SessionState& session,
                            std::span<const uint32_t> positions) const {
  Segment overlay;
  overlay.kind = SegmentKind::selected;
  overlay.exact = false;
  overlay.length = static_cast<uint32_t>(positions.size());
  for (const uint32_t position : positions) {
    const Segment& chunk = session.segments[place_of(session, position).segment];
    const int32_t start = chunk.span.frame_start;
    overlay.tokens.push_back(chunk.canonical->tokens[position - static_cast<uint32_t>(start)]);
    overlay.span.positions.push_back(static_cast<int32_t>(position));
  }
  return overlay;
}

void Context::hide_selected(SessionState& session, std::span<const uint32_t> positions) noexcept {
  for (const uint32_t position : positions) {
    const Place place = place_of(session, position);
    Segment& chunk = session.segments[place.segment];
    chunk.span.hide(place.slot, pool_->page_slots());
    ++chunk.replaced;
  }
  session.ready_approximate -= positions.size();
  session.task->reused_approximate -= positions.size();
}

// The question has chosen, or was answered without: chunks before it are not chosen from again.
void Context::question_over(SessionState& session, uint64_t asked_at) noexcept {
  if (session.asks && session.segments.back().kind == SegmentKind::text) {
    for (Segment& segment : session.segments) {
      if (!is_candidate(session.options, segment)) continue;
      segment.selected_from = true;
      segment.selected_at = static_cast<uint32_t>(asked_at);
    }
  }
  session.asks = false;
}

// Takes all selected tokens out again: the chunks' own are seen. Of `left` tokens only those that
// nothing has computed yet lack KV; this task did the others, in vain.
void Context::put_back_selected(SessionState& session, uint32_t left) noexcept {
  Task& task = *session.task;
  for (const Segment& overlay : session.segments) {
    if (!overlay.overlay()) continue;
    for (const int32_t position : overlay.span.positions) {
      const Place place = place_of(session, static_cast<uint32_t>(position));
      Segment& chunk = session.segments[place.segment];
      chunk.span.show(place.slot, pool_->page_slots());
      --chunk.replaced;
    }
    const uint32_t pending = overlay.pending();
    session.ready_approximate += pending;
    task.reused_approximate += pending;
    left -= pending;
  }
  task.reused_approximate += left;
  task.repaired -= left;
  std::erase_if(session.segments, [](const Segment& segment) { return segment.overlay(); });
}

}  // namespace tessera::engine
