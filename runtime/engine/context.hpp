// One KV budget, one engine thread, many chunks and sessions. The functions are grouped by the file
// that holds them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backends/backend.hpp"
#include "runtime/engine/session_state.hpp"
#include "runtime/engine/step_builder.hpp"
#include "runtime/engine/step_pace.hpp"
#include "runtime/kv/canonical_store.hpp"
#include "runtime/kv/page_pool.hpp"
#include "runtime/kv/prefix_cache.hpp"
#include "runtime/model/model.hpp"

namespace tessera::engine {

struct ContextOptions {
  KvType kv_type = KvType::f16;
  uint64_t kv_budget = uint64_t{1} << 30;  // bytes
  uint32_t page_size = 16;                 // tokens
  uint32_t threads = 0;                    // 0: one a core
  uint32_t max_session_tokens = 0;         // 0: the model's context length
  uint32_t max_step_tokens = 0;            // 0: by device
  std::string anchor;
  std::string primer;
  bool neutral_primer = false;  // where `primer` is empty: the library's, if there is room for it
  bool chunks_alone = false;    // to measure by: chunks are encoded behind nothing
  KeyForm key_form = KeyForm::local;  // tests compare the forms
  std::vector<LayerGroup> groups;     // tests split the layers; empty: as the model says
  std::function<void(const std::string&)> log_error;  // on the engine thread, no lock held
};

// The fields of tsr_metrics that are counted; blocks are counted in blocks.
struct Metrics {
  uint64_t prefix_tokens = 0;
  uint64_t shared_tokens = 0;
  uint64_t computed_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t drafted_tokens = 0;
  uint64_t accepted_tokens = 0;
  uint64_t chunk_hits = 0;
  uint64_t chunk_misses = 0;
  uint64_t steps = 0;
  // filled by Context::metrics
  uint32_t page_size = 0;
  uint64_t page_bytes = 0;
  uint64_t pages_total = 0;
  uint64_t pages_used = 0;
  uint64_t pages_cached = 0;
  uint64_t pages_reserved = 0;
  uint64_t pages_peak = 0;
  uint64_t sessions = 0;
  uint64_t chunks = 0;
};

struct ChunkInfo {
  kv::CanonicalState state = kv::CanonicalState::absent;
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  uint64_t uses = 0;
  kv::Identity identity;
};

struct SessionInfo {
  bool generating = false;
  uint64_t tokens = 0;
  uint64_t computed = 0;
  uint64_t max_tokens = 0;
};

class ContextProbe;  // tests look inside

// Any thread may call any public function; calls on one session come one at a time (the caller
// sees to it), cancel and close excepted. Errors are thrown as tessera::Error.
class Context {
 public:
  // ---- context.cpp
  Context(std::shared_ptr<const model::Model> model, const ContextOptions& options);
  ~Context();  // ends whatever runs
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const model::Model& model() const { return *model_; }
  Metrics metrics();
  // Handle of a session that has an event to read; 0 after timeout_ms (-1: never times out).
  uint64_t wait_any(int64_t timeout_ms);
  // Every wait_any, running or later, throws cancelled.
  void end_waits() noexcept;

  // ---- sessions.cpp
  SessionRef create_session(const SessionOptions& options);
  void close_session(SessionState& session) noexcept;
  void set_handle(SessionState& session, uint64_t handle);
  void add_anchor(SessionState& session);
  // Ids of the vocabulary.
  void add_tokens(SessionState& session, std::span<const int32_t> tokens);
  void add_chunk(SessionState& session, const kv::CanonicalRef& chunk);
  void generate(SessionState& session, const GenerateOptions& options);
  // Floats that evaluate will write.
  uint64_t evaluate_size(SessionState& session, bool all);
  // Blocks. Rows of logits, [rows][vocabulary].
  std::vector<float> evaluate(SessionState& session, bool all);
  // False after timeout_ms. An event of kind `none` says that nothing is under way.
  bool next(SessionState& session, int64_t timeout_ms, Event& event);
  void cancel(SessionState& session) noexcept;
  SessionInfo info(SessionState& session);
  Report report(SessionState& session);
  std::vector<int32_t> tokens(SessionState& session);

  // ---- chunks.cpp
  kv::CanonicalRef create_chunk(std::vector<int32_t> tokens, bool lazy);
  // False after timeout_ms. Throws what the encoding failed with, once; the next wait tries again.
  // Throws cancelled when end_chunk_waits sets `ended`, which the context's lock guards.
  bool wait_chunk(const kv::CanonicalRef& chunk, const bool& ended, int64_t timeout_ms);
  void end_chunk_waits(bool& ended) noexcept;
  ChunkInfo chunk_info(const kv::CanonicalRef& chunk);
  void release_chunk(kv::CanonicalRef chunk) noexcept;

 private:
  friend class ContextProbe;
  struct Participant;

  // Everything below runs under lock_, except where said.

  // ---- chunks.cpp: encoding of canonical texts
  void make_base(const ContextOptions& options);
  std::string primer_text(const ContextOptions& options) const;
  std::vector<kv::CanonicalRef> base_of(kv::CanonicalKind kind) const;
  uint64_t encode_need(const kv::CanonicalRef& text, std::vector<const kv::Canonical*>& counted);
  void start_encode(const kv::CanonicalRef& text);
  void finish_encode(SessionState& job, Status status) noexcept;

  // ---- sessions.cpp
  void check_idle(const SessionState& session) const;
  void check_room(const SessionState& session, uint64_t tokens) const;
  void append_tokens(SessionState& session, std::span<const int32_t> tokens);
  void look_back(SessionState& session, Task& task);  // without lock_
  void append_canonical(SessionState& session, SegmentKind kind, const kv::CanonicalRef& text);
  bool exact_as_encoded(const SessionState& session) const;
  void append_with_head(SessionState& session, const Segment& whole);

  // ---- begin.cpp
  struct Held;
  Held held(const SessionState& session) const;
  void put_back(SessionState& session, const Held& before) noexcept;
  void begin(SessionState& session, Task task, uint64_t new_tokens);
  void drop_context(SessionState& session) noexcept;

  // ---- admission.cpp: reservation, eviction
  uint64_t obtainable() const;  // blocks
  uint64_t available() const;   // of those, what nobody was promised
  void check_available(uint64_t blocks) const;
  uint64_t own_need(const SessionState& session, uint64_t new_tokens) const;
  void reserve(SessionState& session, uint64_t blocks);
  void release_reservation(SessionState& session) noexcept;
  void release_unused(SessionState& session) noexcept;
  kv::BlockRef take_block(SessionState& session);
  void evict_one();

  // ---- reuse.cpp: canonical texts and prefix runs
  void attach_ready(SessionState& session);
  void walk_prefix(SessionState& session, bool match);
  bool match_block(SessionState& session, Segment& segment, bool last_segment);
  void publish_blocks(SessionState& session, Segment& segment, bool closed);
  kv::PrefixNode* edge(const kv::PrefixKey& key, const kv::BlockRef& block);
  void stand_on(SessionState& session, kv::PrefixNode* node) noexcept;
  static bool needs_private_tail(const SessionState& session);
  void reopen_last_token(SessionState& session);

  // ---- select.cpp: what a question looks at, computed once more
  static void plan_probe(SessionState& session);
  static bool probing(const SessionState& session, uint32_t segment);
  static uint64_t probed(const SessionState& session);
  void request_masses(Step& step, Participant& participant) const;
  static void take_masses(const Participant& participant, const StepResult& result);
  void drop_probe(SessionState& session) noexcept;
  void select(SessionState& session);
  std::vector<uint32_t> choose_positions(const SessionState& session) const;
  Segment overlay_of(const SessionState& session, std::span<const uint32_t> positions) const;
  void put_back_selected(SessionState& session, uint32_t left) noexcept;
  void hide_selected(SessionState& session, std::span<const uint32_t> positions) noexcept;
  static void question_over(SessionState& session) noexcept;

  // ---- scheduler.cpp: the engine thread
  struct Participant {
    SessionRef session;
    std::vector<SegmentRows> rows;
    std::vector<int32_t> draft;  // tokens of the last rows, behind the session's
    uint32_t row_count = 0;      // the draft's included
    uint32_t first_row = 0;
    uint32_t first_request = 0;
    uint32_t request_count = 0;
    uint32_t mass_request = UINT32_MAX;  // of the step; none
    uint32_t repair_rows = 0;            // of heads, selected tokens and probes
    Clock::duration repair_time{};       // their share of the step
    std::vector<int32_t> tokens;         // drawn, as far as the draft agrees
    std::exception_ptr error;            // of the draw
  };
  void run();
  void settle_sessions() noexcept;
  void settle(SessionState& session);
  void forget_ended() noexcept;
  uint32_t plan_rows(const SessionState& session, uint32_t budget,
                     std::vector<SegmentRows>& rows) const;
  std::vector<Participant> choose() noexcept;
  StepPace& pace() { return patient_ ? prompt_pace_ : pace_; }
  void choose_from(bool decoding, uint32_t most, uint64_t turn,
                   std::vector<Participant>& chosen) noexcept;
  void add_drafts(std::vector<Participant>& chosen, uint64_t turn) noexcept;
  std::vector<int32_t> draft(const SessionState& session, uint64_t rows) const;
  Step build(std::vector<Participant>& participants);
  void add_to(StepBuilder& builder, Participant& participant);
  void request_samples(Step& step, const Participant& participant);
  void compute(std::unique_lock<std::mutex>& guard, const Step& step,
               std::vector<Participant>& participants, StepResult& result);
  static void draw(Participant& participant, std::span<const LogitsResult> logits) noexcept;
  void apply(std::vector<Participant>& participants, StepResult& result) noexcept;
  void apply_to(Participant& participant, StepResult& result);
  void step_failed(std::unique_lock<std::mutex>& guard,
                   const std::vector<Participant>& participants, Status status,
                   std::string_view message) noexcept;
  void wake();
  void interrupt() noexcept;

  // ---- answer.cpp: tokens, events and the end of a task
  void tokens_ready(const Participant& participant, std::span<const LogitsResult> logits);
  void token_ready(SessionState& session, int32_t token, const LogitsResult& logits);
  void emit(SessionState& session, PreparedEvent event) noexcept;
  void finish(SessionState& session, Finish finish);
  void fail_session(SessionState& session, Status status, std::string_view message) noexcept;
  void end_task(SessionState& session) noexcept;
  void fill_report(SessionState& session) noexcept;

  const std::shared_ptr<const model::Model> model_;
  uint32_t max_session_tokens_;
  StepPace pace_{1};
  StepPace prompt_pace_{1};  // of steps that may be stopped and nobody waits for
  std::function<void(const std::string&)> log_error_;

  std::mutex lock_;
  std::condition_variable work_;    // the engine waits
  std::condition_variable events_;  // wait_any waits
  std::condition_variable chunks_;  // wait_chunk waits
  bool stopping_ = false;
  Status failure_ = Status::ok;  // of the device, for good
  std::string failure_message_ = "the device was lost";
  bool unsettled_ = false;  // a task ended since sessions were last settled
  uint64_t clock_ = 0;      // of last_use
  uint64_t next_wait_ = 0;  // wait_any's turn
  bool waits_ended_ = false;
  uint64_t next_turn_ = 0;    // the scheduler's turn
  bool stoppable_ = false;    // the next step, or the one under way
  bool patient_ = false;      // it may also be long
  bool alone_ = false;        // the next step is one session's
  bool computing_ = false;    // a step is under way
  bool was_stopped_ = false;  // the last step
  Metrics counts_;

  // The pool outlives everything that holds blocks.
  std::unique_ptr<kv::PagePool> pool_;
  std::unique_ptr<Program> program_;
  kv::CanonicalStore canonicals_;
  kv::PrefixCache prefixes_;
  kv::CanonicalRef anchor_;  // null: none
  kv::CanonicalRef primer_;
  bool chunks_alone_ = false;
  kv::Identity chunk_base_;           // identity of all that chunks are encoded behind
  uint64_t reserved_ = 0;             // blocks, of all sessions
  std::vector<SessionRef> sessions_;  // of the application
  std::vector<SessionRef> active_;    // with a task, encodings included

  std::thread engine_;  // last: starts when everything is there
};

}  // namespace tessera::engine
