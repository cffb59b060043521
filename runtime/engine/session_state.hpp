// All that the engine knows of one session. Guarded by the context's lock, except where noted.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/event.hpp"
#include "runtime/engine/penalties.hpp"
#include "runtime/engine/prompt_lookup.hpp"
#include "runtime/engine/sampler.hpp"
#include "runtime/engine/segment.hpp"
#include "runtime/kv/prefix_cache.hpp"
#include "runtime/text/stream_decoder.hpp"

namespace tessera::engine {

using Clock = std::chrono::steady_clock;

// tsr_repair
enum class Repair : uint8_t { none, head, select, head_select, full };

struct SessionOptions {
  Repair repair = Repair::none;
  uint32_t head_tokens = 16;       // of each chunk
  float select_share = 0.05f;      // of the chunks' tokens
  float select_layers = 1.0f / 3;  // share of the layers, the last ones, that choose
  bool reselect = false;           // each question chooses anew
  std::vector<uint32_t> chosen;    // to measure by: these positions instead of what a question
                                   // looks at
  uint32_t event_capacity = 64;
  float max_kl = 0;       // refused where the gate did not measure as little; 0: no limit
  bool measures = false;  // of a gate: neither finds nor leaves prefix runs, ends with the waits

  bool selects() const { return repair == Repair::select || repair == Repair::head_select; }
  // Heads do not see selected tokens. Where all tokens are selected, those of heads are among them.
  bool repairs_heads() const {
    const bool all_selected = selects() && select_share >= 1;
    return (repair == Repair::head || repair == Repair::head_select) && head_tokens > 0 &&
           !all_selected;
  }
};

struct GenerateOptions {
  Sampling sampling;
  PenaltyOptions penalties;
  uint32_t lookup_tokens = 0;  // longest draft; 0: no drafts
  uint32_t max_tokens = 0;     // 0: 256, or what is left of the session
  bool ignore_end = false;
  std::vector<std::string> stops;
};

// Counts of tokens and bytes, times in microseconds; the fields of tsr_report.
struct Report {
  uint64_t tokens_exact = 0;
  uint64_t tokens_repaired = 0;
  uint64_t tokens_approximate = 0;
  uint64_t tokens_computed = 0;
  uint64_t tokens_generated = 0;
  uint64_t tokens_drafted = 0;
  uint64_t tokens_accepted = 0;
  uint64_t bytes_shared = 0;
  uint64_t bytes_private = 0;
  uint64_t lookup_us = 0;
  uint64_t load_us = 0;
  uint64_t repair_us = 0;
  uint64_t prompt_us = 0;
  uint64_t first_token_us = 0;
  uint64_t generate_us = 0;
};

enum class Purpose : uint8_t { generate, evaluate, encode };

// Where an encoding gets its KV from. Without a disk tier all compute.
enum class EncodeStage : uint8_t {
  computing,
  loading,  // from its file; computes if there is none, or none of use
  asleep,   // of a base: needed only if what stands behind it is not loaded. Holds its promise
};

// The pass that finds out what a question looks at. Its KV is dropped.
struct Probe {
  uint32_t question = 0;                      // segment: the text behind the last chunk
  uint32_t kept = 0;                          // tokens of it that had KV before
  uint32_t budget = 0;                        // tokens to select at most
  uint32_t left = 0;                          // selected before, not computed when the task began
  std::vector<std::vector<uint64_t>> masses;  // [segment before the question][slot of its span]
};

// What the session is doing now.
struct Task {
  explicit Task(Purpose what) : purpose(what), last_event(1) {
    last_event.front().text.reserve(kMessageBytes);
  }
  static constexpr size_t kMessageBytes = 512;

  Purpose purpose;
  PreparedEvent last_event;            // with room for a message: ending a task cannot fail
  GenerateOptions options;             // generate
  text::StreamDecoder decoder;         // generate
  text::StopMatcher stops{{}};         // generate
  std::optional<Penalties> penalties;  // generate: none where nothing is adjusted
  std::optional<PromptLookup> lookup;  // generate: none without drafts
  std::vector<int32_t> history;        // of those two: the session's tokens
  uint64_t generated = 0;
  uint64_t prompt_tokens = 0;  // in the session when the task began
  uint64_t reused_exact = 0;   // of those, ready without computing, by provenance
  uint64_t reused_approximate = 0;
  uint64_t repaired = 0;       // computed by now: heads and selected tokens
  std::optional<Probe> probe;  // none: nothing to select, or selected
  Clock::duration repair_time{};
  bool decoding = false;      // the prompt is done
  bool all_logits = false;    // evaluate: of all that was added, not of the last token only
  uint64_t first_logits = 0;  // evaluate: the first token whose logits are wanted
  std::vector<float> logits;  // evaluate: rows so far
  kv::CanonicalRef target;    // encode: takes the KV
  EncodeStage stage = EncodeStage::computing;  // encode
  Clock::duration load_time{};                 // from the begin to the last file waited for
  Clock::time_point begun;
  Clock::time_point prompt_begun;  // first step
  Clock::time_point first_token;
};

struct SessionState {
  SessionState(const SessionOptions& session_options)
      : options(session_options), events(session_options.event_capacity) {}

  const SessionOptions options;
  uint64_t handle = 0;  // the application's name for it, for tsr_context_wait

  std::vector<Segment> segments;
  uint64_t tokens = 0;   // sum of the segments' lengths
  uint64_t settled = 0;  // of those, there when the last answer or evaluation ended
  bool asks = false;     // something was added since a question last chose or was answered

  // Where the session stands in the prefix tree: segments before prefix_segment are in it whole.
  uint32_t prefix_segment = 0;
  kv::PrefixNode* prefix = nullptr;  // of whose holders the session is one; null: the root
  bool prefix_open = true;           // false: the rest of this session is in no prefix run
  static constexpr uint64_t kNone = UINT64_MAX;
  uint64_t private_from = kNone;  // why not: tokens from here on see what is this session's own

  uint64_t ready_exact = 0;  // tokens with KV, by provenance
  uint64_t ready_approximate = 0;

  std::optional<Task> task;
  uint64_t turn = 0;      // of sessions that wait for a step the smallest is first
  uint64_t reserved = 0;  // blocks promised to the task and not yet taken
  Report report;
  EventQueue events;
  std::condition_variable changed;  // events, end of the task, closing
  Event ended;                      // evaluate: how it ended, `failed` or not
  std::vector<float> ended_logits;  // evaluate

  std::atomic<bool> cancel_requested{false};  // set without the lock
  bool closed = false;

  uint64_t ready() const { return ready_exact + ready_approximate; }
  uint64_t last_start() const { return static_cast<uint64_t>(segments.back().span.logical_start); }
  bool all_attached() const {
    return std::ranges::all_of(segments, [](const Segment& segment) {
      return segment.computed_here() || segment.attached;
    });
  }
};

using SessionRef = std::shared_ptr<SessionState>;

}  // namespace tessera::engine
