// One KV budget, one engine thread, many chunks and sessions. The functions are grouped by the file
// that holds them.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backends/backend.hpp"
#include "runtime/engine/disk_tier.hpp"
#include "runtime/engine/gate_store.hpp"
#include "runtime/engine/session_state.hpp"
#include "runtime/engine/snapshot.hpp"
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
  std::function<void(const std::string&)> log_error;  // on any thread, no lock held
  std::string cache_folder;                           // of the disk tier; empty: none
  uint64_t cache_budget = uint64_t{4} << 30;          // bytes of files
  // On the caller's thread while the context is made, and on those of the disk tier; no lock held.
  std::function<void(const std::string&)> log_warning;
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
  uint64_t chunks_loaded = 0;
  uint64_t evicted_chunks = 0;
  uint64_t evicted_runs = 0;  // their pages
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
  uint64_t pages_pinned = 0;
  DiskCounts disk;
};

// A chunk of this context on disk.
struct DiskEntry {
  kv::Identity identity;
  uint64_t tokens = 0;
  uint64_t bytes = 0;    // of the file
  int64_t last_use = 0;  // nanoseconds since 1970
};

struct ChunkInfo {
  kv::CanonicalState state = kv::CanonicalState::absent;
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  uint64_t uses = 0;
  kv::Identity identity;
  bool pinned = false;
  uint64_t sessions = 0;    // that use it now
  uint64_t disk_bytes = 0;  // of its file
  uint64_t cost = 0;        // multiply-adds
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
  uint64_t max_session_tokens() const { return max_session_tokens_; }
  uint64_t anchor_tokens() const { return anchor_ ? anchor_->size() : 0; }
  Metrics metrics();
  // Handle of a session that has an event to read; 0 after timeout_ms (-1: never times out).
  uint64_t wait_any(int64_t timeout_ms);
  // Every wait_any, running or later, throws cancelled.
  // So do the calls of sessions that measure.
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

  // ---- fork.cpp
  // A session with the same tokens and KV, and no page of its own.
  SessionRef fork(SessionState& session);

  // ---- rewind.cpp
  // Keeps the first `tokens` tokens, as if nothing had been added behind them.
  void rewind(SessionState& session, uint64_t tokens);

  // ---- save.cpp: docs/session-format.md
  // Bytes that the saved session takes; written to `out` where `capacity` is that much.
  uint64_t save(SessionState& session, uint8_t* out, uint64_t capacity);

  // ---- restore.cpp
  SessionRef restore(std::span<const uint8_t> bytes);

  // ---- chunks.cpp
  kv::CanonicalRef create_chunk(std::vector<int32_t> tokens, bool lazy);
  // False after timeout_ms. Throws what the encoding failed with, once; the next wait tries again.
  // Throws cancelled when end_chunk_waits sets `ended`, which the context's lock guards.
  bool wait_chunk(const kv::CanonicalRef& chunk, const bool& ended, int64_t timeout_ms);
  void end_chunk_waits(bool& ended) noexcept;
  ChunkInfo chunk_info(const kv::CanonicalRef& chunk);
  void release_chunk(kv::CanonicalRef chunk) noexcept;

  // ---- gate.cpp: results of measure_gate, by setting; in the cache folder too, where there is one
  std::optional<GateResult> find_gate(const SessionOptions& options);
  void keep_gate(const SessionOptions& options, const GateResult& result);

  // ---- disk.cpp; without a disk tier there are no files
  // The files of chunks that this context could use. Reads the folder; throws io_error.
  std::vector<DiskEntry> list_disk();
  // False: something still waits to be written.
  bool flush(int64_t timeout_ms);
  // The tokens that a chunk's file holds. Throws not_found where there is none of use.
  std::vector<int32_t> disk_tokens(const kv::Identity& chunk);
  // Removes a chunk's file; its KV in memory stays. False: there was none. Throws io_error.
  bool remove_from_disk(const kv::Identity& chunk);

  // ---- library.cpp: what the application does with the chunks that are there
  // Of chunks that have KV, that a handle or a session refers to, or that are pinned; in the order
  // of their creation.
  std::vector<kv::Identity> list_chunks();
  kv::CanonicalRef find_chunk(const kv::Identity& identity);
  void pin_chunk(const kv::CanonicalRef& chunk, bool pinned);
  void drop_chunk(const kv::CanonicalRef& chunk, bool memory, bool disk);

 private:
  friend class ContextProbe;
  struct Participant;

  // Everything below runs under lock_, except where said.

  // ---- chunks.cpp: encoding of canonical texts
  std::string kv_settings(const ContextOptions& options) const;
  void make_base(const ContextOptions& options);
  std::string primer_text(const ContextOptions& options) const;
  std::vector<kv::CanonicalRef> base_of(kv::CanonicalKind kind) const;
  uint64_t base_tokens(kv::CanonicalKind kind) const;
  uint64_t encode_need(const kv::CanonicalRef& text, std::vector<const kv::Canonical*>& counted);
  void check_chunk(uint64_t tokens) const;
  void start_encode(const kv::CanonicalRef& text, bool asleep = false);
  void finish_encode(SessionState& job, Status status) noexcept;

  // ---- disk.cpp
  void open_disk(const ContextOptions& options);
  kv::ChunkHead file_head(const kv::Canonical& text) const;
  SessionRef encoding_of(uint64_t serial) const;
  void awaken(const kv::Canonical& text);
  void load(SessionState& job);
  void take_loads(std::unique_lock<std::mutex>& guard) noexcept;
  void take_load(std::unique_lock<std::mutex>& guard, DiskTier::Reading& reading) noexcept;
  void note_load(const kv::Canonical& text) noexcept;
  void compute_instead(SessionState& job);
  bool settle_waiting(SessionState& job) noexcept;
  void store_later(const kv::CanonicalRef& text) noexcept;
  bool store_one() noexcept;
  void store(const kv::Canonical& text);

  // ---- library.cpp
  uint64_t sessions_of(const kv::Canonical& text) const;
  kv::CanonicalRef known_chunk(const kv::Identity& identity);  // takes lock_
  void drop_memory(const kv::CanonicalRef& chunk);

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

  // ---- gate.cpp; without lock_
  GateKey gate_key(const SessionOptions& options) const;
  void check_gate(const SessionOptions& options);

  // ---- admission.cpp: reservation, eviction
  uint64_t obtainable() const;  // blocks
  uint64_t available() const;   // of those, what nobody was promised
  void check_available(uint64_t blocks) const;
  uint64_t own_need(const SessionState& session, uint64_t new_tokens) const;
  void reserve(SessionState& session, uint64_t blocks);
  void release_reservation(SessionState& session) noexcept;
  void release_unused(SessionState& session) noexcept;
  uint64_t copies_needed(const SessionState& session) const;
  kv::BlockRef obtain_block();
  kv::BlockRef take_block(SessionState& session);
  void keep_to_itself(SessionState& session, kv::Span& span);
  void evict_one();

  // ---- reuse.cpp: canonical texts and prefix runs
  void attach_ready(SessionState& session);
  void show_encoded(std::span<const Segment> all, Segment& segment) const;
  void walk_prefix(SessionState& session, bool match);
  bool match_block(SessionState& session, Segment& segment, bool last_segment);
  void publish_blocks(SessionState& session, Segment& segment, bool closed);
  kv::PrefixNode* edge(const kv::PrefixKey& key, const kv::BlockRef& block);
  void come_to(SessionState& session, kv::PrefixNode* node) noexcept;
  void stand_on(SessionState& session, kv::PrefixNode* node) noexcept;
  void leave_runs(SessionState& session, uint64_t position) noexcept;
  void step_back(SessionState& session) noexcept;
  void reopen_last_token(SessionState& session);

  // ---- page_access.hpp
  class PageAccess;
  class Unlocked;

  // ---- rewind.cpp
  void cut(Segment& segment, uint64_t length) const noexcept;
  void put_back_behind(std::vector<Segment>& segments, uint64_t tokens) const noexcept;
  void close_again(std::vector<Segment>& segments) const;
  static bool make_question(const SessionOptions& options, std::vector<Segment>& kept) noexcept;

  // ---- save.cpp
  SavedBase saved_base() const;

  // ---- restore.cpp
  void check_base(const SavedBase& saved) const;
  uint64_t check_saved(const SavedSession& saved) const;
  void take_saved(const SavedSession& saved, SessionState& session);

  // ---- select.cpp: what a question looks at, computed once more
  static uint32_t tokens_to_select(const SessionOptions& options,
                                   std::span<const Segment> segments);
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
  static void question_over(SessionState& session, uint64_t asked_at) noexcept;

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
  StepPace& pace() { return patient_ ? patient_pace_ : pace_; }
  void choose_from(bool decoding, uint32_t most, std::vector<Participant>& chosen) noexcept;
  bool better_later(const std::vector<Participant>& chosen) noexcept;
  void add_drafts(std::vector<Participant>& chosen, uint64_t first) noexcept;
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
  StepPace patient_pace_{1};  // of steps that may be stopped and delay nobody
  std::function<void(const std::string&)> log_error_;

  std::mutex lock_;
  std::condition_variable work_;    // the engine waits
  std::condition_variable events_;  // wait_any waits
  std::condition_variable chunks_;  // wait_chunk waits
  std::condition_variable stored_;  // flush waits
  bool stopping_ = false;
  Status failure_ = Status::ok;  // of the device, for good
  std::string failure_message_ = "the device was lost";
  bool unsettled_ = false;  // a task ended since sessions were last settled
  uint64_t next_wait_ = 0;  // wait_any's turn
  bool waits_ended_ = false;
  uint64_t next_step_ = 0;              // the scheduler's count
  uint64_t last_turn_ = 0;              // SessionState::turn
  bool stoppable_ = false;              // the next step, or the one under way
  bool patient_ = false;                // it may also be long
  bool alone_ = false;                  // the next step is one session's
  bool computing_ = false;              // a step is under way
  bool was_stopped_ = false;            // the last step
  std::condition_variable pages_free_;  // PageAccess waits
  uint32_t page_users_ = 0;             // PageAccess objects: no step begins
  bool pages_taken_ = false;            // by one of them
  Metrics counts_;
  GateStore gates_;  // has a lock of its own

  // The pool outlives everything that holds blocks.
  std::unique_ptr<kv::PagePool> pool_;
  std::unique_ptr<Program> program_;
  kv::ValueRule value_rule_;
  kv::CanonicalStore canonicals_{value_rule_};
  kv::PrefixCache prefixes_{value_rule_};
  kv::CanonicalRef anchor_;  // null: none
  kv::CanonicalRef primer_;
  bool chunks_alone_ = false;
  kv::Identity chunk_base_;                   // identity of all that chunks are encoded behind
  std::array<kv::Identity, 3> fingerprints_;  // of what texts are encoded behind, by kind
  uint64_t reserved_ = 0;                     // blocks, of all sessions
  std::vector<SessionRef> sessions_;          // of the application
  std::vector<SessionRef> active_;            // with a task, encodings included

  std::deque<kv::CanonicalRef> unsaved_;  // encoded, to be written
  std::unique_ptr<DiskTier> disk_;        // null: none. Its threads call back

  std::thread engine_;  // last: starts when everything is there
};

}  // namespace tessera::engine
