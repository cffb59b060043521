// A session that begins where another one stands. Both see the same pages; whoever writes to one
// that the other sees takes a copy of it first: keep_to_itself.
#include "runtime/engine/context.hpp"

namespace tessera::engine {

SessionRef Context::fork(SessionState& session) {
  std::lock_guard guard(lock_);
  check_idle(session);
  auto fork = std::make_shared<SessionState>(session.options);  // goes before the lock, if it fails
  fork->segments = session.segments;
  sessions_.push_back(fork);

  // Nothing fails from here on.
  for (const Segment& segment : fork->segments) {
    if (segment.pinned) canonicals_.hold(*segment.canonical);
  }
  fork->tokens = session.tokens;
  fork->settled = session.settled;
  fork->asks = session.asks;
  fork->prefix_segment = session.prefix_segment;
  fork->prefix_open = session.prefix_open;
  fork->private_from = session.private_from;
  stand_on(*fork, session.prefix);
  fork->ready_exact = session.ready_exact;
  fork->ready_approximate = session.ready_approximate;
  fork->report = session.report;
  return fork;
}

}  // namespace tessera::engine
