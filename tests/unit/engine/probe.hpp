// A look inside a context, for what the ABI does not tell: who holds which pages and what is in
// them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "include/tessera/tessera.h"
#include "runtime/engine/context.hpp"

namespace tessera::engine {

class ContextProbe {
 public:
  explicit ContextProbe(tsr_context handle);

  Context& context() { return context_; }

  // Nothing is under way, encodings included.
  bool idle();
  // Tokens of every session of the application at one moment, in the order of their creation.
  std::vector<uint64_t> tokens_of_sessions();
  // Distinct pages that living sessions hold or keep from being evicted.
  uint64_t pages_of_sessions();
  // What must hold whenever the lock is free; empty, or what does not:
  // promises can be kept, every session's counts agree with its segments, spans are whole, whoever
  // stands in the prefix tree holds the blocks of the whole path, pins have owners.
  std::string check();
  // The bytes of the chunk's pages, in order. Only while nothing runs in the context.
  std::vector<std::vector<uint8_t>> bytes_of(tsr_chunk chunk);
  std::vector<Segment> segments(tsr_session session);

 private:
  std::string check_session(const SessionState& session);
  std::string check_selected(const SessionState& session);

  Context& context_;
};

}  // namespace tessera::engine
