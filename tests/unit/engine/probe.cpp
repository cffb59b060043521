#include "tests/unit/engine/probe.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "runtime/abi/objects.hpp"

namespace tessera::engine {

ContextProbe::ContextProbe(tsr_context handle)
    : context_(*abi::find<abi::ContextObject>(handle)->engine) {}

bool ContextProbe::idle() {
  std::lock_guard guard(context_.lock_);
  return std::ranges::none_of(context_.active_,
                              [](const SessionRef& s) { return s->task.has_value(); });
}

std::vector<uint64_t> ContextProbe::tokens_of_sessions() {
  std::lock_guard guard(context_.lock_);
  std::vector<uint64_t> tokens;
  for (const SessionRef& session : context_.sessions_) tokens.push_back(session->tokens);
  return tokens;
}

uint64_t ContextProbe::pages_of_sessions() {
  std::lock_guard guard(context_.lock_);
  std::set<const kv::Block*> blocks;
  for (const SessionRef& session : context_.sessions_) {
    for (const Segment& segment : session->segments) {
      for (const kv::BlockRef& block : segment.span.blocks) blocks.insert(block.get());
      if (!segment.pinned) continue;
      for (const kv::BlockRef& block : segment.canonical->blocks) blocks.insert(block.get());
    }
  }
  return blocks.size();
}

// Just the slots of selected tokens are hidden as such.
std::string ContextProbe::check_selected(const SessionState& session) {
  std::map<int32_t, int> hidden;
  for (const Segment& s : session.segments) {
    for (const int32_t position : s.span.positions) {
      if (s.overlay() && ++hidden[position] > 1) return "a token was selected twice";
    }
  }
  const uint32_t page_slots = context_.pool_->page_slots();
  size_t found = 0;
  for (const Segment& s : session.segments) {
    if (s.kind != SegmentKind::shared) continue;
    uint32_t replaced = 0;
    const uint32_t first = s.skip % page_slots;
    for (uint32_t slot = first; slot < first + s.length; ++slot) {
      const bool selected = hidden.contains(s.span.position(slot));
      if (s.attached && s.span.valid(slot, page_slots) == selected)
        return "a selected slot is seen, or another not";
      replaced += selected;
    }
    if (replaced != s.replaced) return "a chunk's count of replaced tokens is wrong";
    found += replaced;
  }
  if (found != hidden.size()) return "a selected token is no chunk's";
  return {};
}

std::string ContextProbe::check_session(const SessionState& session) {
  const uint32_t page_slots = context_.pool_->page_slots();
  uint64_t tokens = 0, exact = 0, approximate = 0;
  std::set<const kv::Block*> blocks;
  for (const Segment& s : session.segments) {
    if (!s.overlay()) tokens += s.length;
    (s.exact ? exact : approximate) += s.ready();
    const uint32_t hidden = s.skip % page_slots + s.replaced;  // where it is attached
    if (s.ready() > s.length) return "more of a segment is ready than it has";
    if (s.computed_here() && s.tokens.size() != s.length) return "tokens and length differ";
    if (s.span.masks.size() != s.span.blocks.size()) return "masks and blocks differ";
    if (s.span.blocks.size() * page_slots < s.span.slots) return "a span lacks blocks";
    if (s.attached && (!s.pinned || s.span.slots != s.length + s.skip % page_slots)) {
      return "half attached";
    }
    if (s.overlay() && s.span.positions.size() != s.length) return "positions and length differ";
    uint64_t valid = 0;
    for (const uint64_t mask : s.span.masks) valid += static_cast<uint64_t>(std::popcount(mask));
    if (valid + (s.attached ? hidden : 0) != s.span.slots)
      return "the masks do not show just the slots that are ready";
    for (const kv::BlockRef& block : s.span.blocks) blocks.insert(block.get());
  }
  if (std::string wrong = check_selected(session); !wrong.empty()) return wrong;
  if (tokens != session.tokens) return "the session's tokens are not its segments'";
  if (exact != session.ready_exact || approximate != session.ready_approximate) {
    return "the ready counts are not the spans'";
  }
  if (!session.task && session.reserved != 0) return "a reservation without a task";
  for (const kv::PrefixNode* node = session.prefix; node; node = node->parent) {
    if (node->block && !blocks.contains(node->block.get())) {
      return "a session stands on a prefix node whose path it does not hold";
    }
  }
  return {};
}

std::string ContextProbe::check() {
  std::lock_guard guard(context_.lock_);
  uint64_t reserved = 0;
  std::map<const kv::Canonical*, uint32_t> pins;
  std::set<SessionRef> all(context_.sessions_.begin(), context_.sessions_.end());
  all.insert(context_.active_.begin(), context_.active_.end());
  const std::set<SessionRef> active(context_.active_.begin(), context_.active_.end());
  if (active.size() != context_.active_.size()) return "a session is active twice";
  for (const SessionRef& session : all) {
    if (const std::string wrong = check_session(*session); !wrong.empty()) return wrong;
    reserved += session->reserved;
    for (const Segment& s : session->segments) {
      if (s.pinned) ++pins[s.canonical.get()];
    }
  }
  if (reserved != context_.reserved_) return "reservations do not add up";
  if (context_.reserved_ > context_.obtainable()) return "more is promised than can be had";
  for (const kv::CanonicalRef& text : context_.canonicals_.entries()) {
    if (text->pins != pins[text.get()]) return "a pin without an owner, or none with one";
    const bool ready = text->state == kv::CanonicalState::ready;
    const uint64_t blocks = ready ? context_.pool_->blocks_for(text->size()) : 0;
    if (text->blocks.size() != blocks) return "a canonical text has the wrong number of blocks";
  }
  return {};
}

std::vector<std::vector<uint8_t>> ContextProbe::bytes_of(tsr_chunk chunk) {
  const auto object = abi::find<abi::ChunkObject>(chunk);
  std::lock_guard guard(context_.lock_);
  std::vector<std::vector<uint8_t>> pages;
  const KvLayout& layout = context_.pool_->layout();
  for (const kv::BlockRef& block : object->text->blocks) {
    for (uint32_t g = 0; g < layout.groups.size(); ++g) {
      pages.emplace_back(context_.model_->backend().page_bytes(layout, g));
      context_.pool_->memory().read(g, block->page(g), pages.back().data());
    }
  }
  return pages;
}

std::vector<Segment> ContextProbe::segments(tsr_session session) {
  const auto object = abi::find<abi::SessionObject>(session);
  std::lock_guard guard(context_.lock_);
  return object->state->segments;
}

}  // namespace tessera::engine
