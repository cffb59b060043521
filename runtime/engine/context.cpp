#include "runtime/engine/context.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "runtime/engine/processors.hpp"

namespace tessera::engine {
namespace {

constexpr uint32_t kMostStepTokens = 256;

// Of KV: what stands behind the last layer is not needed for it.
kv::Work work_of(const model::Hyperparameters& h) {
  const double layers = h.layers, width = h.width, ffn = h.ffn_width;
  const double heads = double{1} * h.heads * h.head_dim;
  const double kv_heads = double{1} * h.kv_heads * h.head_dim;
  return {layers * width * (2 * heads + 2 * kv_heads + 3 * ffn), layers * 2 * heads};
}

}  // namespace

Context::Context(std::shared_ptr<const model::Model> model, const ContextOptions& options)
    : model_(std::move(model)),
      log_error_(options.log_error),
      value_rule_(work_of(model_->hyperparameters())) {
  const model::Hyperparameters& h = model_->hyperparameters();
  max_session_tokens_ = options.max_session_tokens ? options.max_session_tokens : h.context_length;
  if (max_session_tokens_ > h.context_length) {
    fail(Status::invalid_argument, "max_session_tokens is " + std::to_string(max_session_tokens_) +
                                       ", must be at most the model's context length " +
                                       std::to_string(h.context_length));
  }
  pace_ = options.max_step_tokens ? StepPace(options.max_step_tokens)
                                  : StepPace::adaptive(kMostStepTokens);
  patient_pace_ = options.max_step_tokens ? pace_ : StepPace::stoppable(kMostStepTokens);
  KvLayout layout;
  layout.type = options.kv_type;
  layout.page_slots = options.page_size;
  layout.groups = options.groups.empty() ? model_->architecture().layer_groups() : options.groups;
  pool_ = std::make_unique<kv::PagePool>(model_->backend(), layout, options.kv_budget);
  make_base(options);
  open_disk(options);
  const Graph graph = model_->architecture().build_graph({options.key_form});
  ProgramOptions program_options;
  program_options.max_rows = pace_.most();
  program_options.threads = options.threads ? options.threads : usable_processors();
  program_ = model_->backend().compile(graph, pool_->memory(), program_options);
  try {
    engine_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    fail(Status::out_of_host_memory,
         std::string("cannot start the context's engine thread: ") + error.what());
  }
}

Context::~Context() {
  {
    std::lock_guard guard(lock_);
    stopping_ = true;
    interrupt();
  }
  engine_.join();
  disk_.reset();
  // Blocks go back to the pool before it goes.
  active_.clear();
  sessions_.clear();
}

Metrics Context::metrics() {
  std::lock_guard guard(lock_);
  Metrics m = counts_;
  m.page_size = pool_->page_slots();
  m.page_bytes = pool_->block_bytes();
  m.pages_total = pool_->total();
  m.pages_used = pool_->used();
  m.pages_cached = canonicals_.evictable_blocks() + prefixes_.evictable_blocks();
  m.pages_pinned = canonicals_.pinned_blocks();
  m.pages_reserved = reserved_;
  m.pages_peak = pool_->peak();
  m.sessions = sessions_.size();
  m.chunks = canonicals_.ready_chunks();
  if (disk_) m.disk = disk_->counts();
  return m;
}

uint64_t Context::wait_any(int64_t timeout_ms) {
  std::unique_lock guard(lock_);
  uint64_t found = 0;
  const auto ready = [&] {
    for (size_t i = 0; i < sessions_.size(); ++i) {
      const size_t at = (next_wait_ + i) % sessions_.size();
      if (!sessions_[at]->events.empty()) {
        found = sessions_[at]->handle;
        next_wait_ = at + 1;
        return true;
      }
    }
    return false;
  };
  const auto over = [&] { return waits_ended_ || ready(); };
  if (timeout_ms < 0) {
    events_.wait(guard, over);
  } else {
    events_.wait_for(guard, std::chrono::milliseconds(timeout_ms), over);
  }
  if (waits_ended_) fail(Status::cancelled, "the context was destroyed while it was waited for");
  return found;
}

void Context::end_waits() noexcept {
  std::lock_guard guard(lock_);
  waits_ended_ = true;
  events_.notify_all();
  stored_.notify_all();
  for (const SessionRef& session : sessions_) {
    if (!session->options.measures) continue;
    session->closed = true;  // whoever measures takes it out of the list
    session->changed.notify_all();
    if (session->task) interrupt();
  }
}

}  // namespace tessera::engine
