// The gate: how far answers behind shared chunks are from those of full prefill, measured on texts
// through sessions of the context itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/engine/gate_store.hpp"
#include "runtime/engine/session_state.hpp"

namespace tessera::engine {

class Context;

// Texts and questions are UTF-8 and not empty.
struct GateOptions {
  SessionOptions session;              // the setting; what does not repair is ignored
  std::vector<std::string> texts;      // at least two
  std::vector<std::string> questions;  // empty: a fact and a summary
  uint32_t chunk_tokens = 256;
  uint32_t chunks = 0;  // a prompt; 0: 4, or as many as the texts give
  uint32_t max_prompts = 8;
  uint32_t answer_tokens = 24;
};

// Blocks. Each prompt is answered greedily by full prefill; over that answer the logits of the
// setting are compared with it, two rows at a time. The result is stored in the context. Throws
// invalid_argument, capacity, cancelled (the context's waits ended), and what evaluating throws.
GateResult measure_gate(Context& context, const GateOptions& options);

}  // namespace tessera::engine
