// The start of a task: takes what is ready, reserves the rest, or leaves the session as it was.
#include <algorithm>

#include "runtime/engine/context.hpp"

namespace tessera::engine {

// What a session held before it took what is ready.
struct Context::Held {
  struct Part {
    size_t blocks;
    uint32_t slots, published;
    bool pinned, attached;
  };
  std::vector<Part> parts;  // of segments
  kv::PrefixNode* prefix;
  uint32_t prefix_segment;
  bool prefix_open;
  uint64_t private_from;
  uint64_t ready_exact, ready_approximate;
  uint64_t shared_tokens, prefix_tokens;  // of the metrics
};

Context::Held Context::held(const SessionState& session) const {
  Held held;
  held.parts.reserve(session.segments.size());
  for (const Segment& s : session.segments) {
    held.parts.push_back({s.span.blocks.size(), s.span.slots, s.published, s.pinned, s.attached});
  }
  held.prefix = session.prefix;
  held.prefix_segment = session.prefix_segment;
  held.prefix_open = session.prefix_open;
  held.private_from = session.private_from;
  held.ready_exact = session.ready_exact;
  held.ready_approximate = session.ready_approximate;
  held.shared_tokens = counts_.shared_tokens;
  held.prefix_tokens = counts_.prefix_tokens;
  return held;
}

void Context::put_back(SessionState& session, const Held& before) noexcept {
  for (size_t i = 0; i < before.parts.size(); ++i) {
    Segment& segment = session.segments[i];
    const Held::Part& part = before.parts[i];
    segment.span.shrink(part.blocks, part.slots);
    segment.published = part.published;
    if (segment.attached && !part.attached) --segment.canonical->uses;
    if (segment.pinned && !part.pinned) canonicals_.let_go(*segment.canonical);
    segment.attached = part.attached;
    segment.pinned = part.pinned;
  }
  for (kv::PrefixNode* node = session.prefix; node && node != before.prefix; node = node->parent) {
    --node->uses;
  }
  stand_on(session, before.prefix);
  session.prefix_segment = before.prefix_segment;
  session.prefix_open = before.prefix_open;
  session.private_from = before.private_from;
  session.ready_exact = before.ready_exact;
  session.ready_approximate = before.ready_approximate;
  counts_.shared_tokens = before.shared_tokens;
  counts_.prefix_tokens = before.prefix_tokens;
}

// Hands the session to the engine, or throws and leaves it as it was.
void Context::begin(SessionState& session, Task task, uint64_t new_tokens) {
  if (failure_ != Status::ok) fail(failure_, failure_message_);
  const Held before = held(session);
  const SessionRef self = *std::ranges::find_if(
      sessions_, [&](const SessionRef& other) { return other.get() == &session; });
  session.cancel_requested = false;
  task.begun = Clock::now();
  task.prompt_tokens = session.tokens;
  task.reused_exact = session.ready_exact;
  task.reused_approximate = session.ready_approximate;
  const bool match = !(task.purpose == Purpose::evaluate && task.all_logits);
  session.task.emplace(std::move(task));
  // The session may leave it, and what else needs it be given up for pages that files are read
  // into.
  if (before.prefix) prefixes_.hold(*before.prefix);
  const auto let_go = [&] {
    if (before.prefix) prefixes_.let_go(*before.prefix);
  };
  try {
    plan_probe(session);
    attach_ready(session);
    walk_prefix(session, match);
    const uint64_t own = own_need(session, new_tokens);
    uint64_t encodings = 0;
    std::vector<const kv::Canonical*> counted;
    for (const Segment& segment : session.segments) {
      if (segment.computed_here() || segment.attached) continue;
      encodings += encode_need(segment.canonical, counted);
    }
    check_available(own + encodings);
    for (Segment& segment : session.segments) {
      if (segment.computed_here() || segment.attached) continue;
      start_encode(segment.canonical);
      if (segment.pinned) continue;
      canonicals_.hold(*segment.canonical);
      segment.pinned = true;
    }
    active_.push_back(self);
    session.turn = ++last_turn_;
    reserve(session, own);
  } catch (...) {
    put_back(session, before);
    let_go();
    session.task.reset();
    throw;
  }
  let_go();
  session.report = Report{};
  wake();
}

// Lets go of all KV and of the place in the prefix tree.
void Context::drop_context(SessionState& session) noexcept {
  for (Segment& segment : session.segments) {
    if (segment.pinned) canonicals_.let_go(*segment.canonical);
  }
  session.segments.clear();
  stand_on(session, nullptr);
}

}  // namespace tessera::engine
