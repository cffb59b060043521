// Contexts and chunks.
#include <thread>

#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/status.hpp"
#include "runtime/abi/structs.hpp"

using namespace tessera;
using namespace tessera::abi;

static_assert(TSR_CHUNK_ABSENT == static_cast<int32_t>(kv::CanonicalState::absent));
static_assert(TSR_CHUNK_PENDING == static_cast<int32_t>(kv::CanonicalState::pending));
static_assert(TSR_CHUNK_READY == static_cast<int32_t>(kv::CanonicalState::ready));
static_assert(TSR_CHUNK_FAILED == static_cast<int32_t>(kv::CanonicalState::failed));

namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxStepTokens = 65536;

KvType kv_type_argument(tsr_kv_type type) {
  switch (type) {
    case TSR_KV_F16:
      return KvType::f16;
    case TSR_KV_Q8_0:
      return KvType::q8_0;
    case TSR_KV_F32:
      return KvType::f32;
    default:
      invalid("options->kv_type is " + std::to_string(type) + ", must be a TSR_KV value");
  }
}

engine::ContextOptions context_options(const tsr_context_options& o) {
  engine::ContextOptions options;
  options.kv_type = kv_type_argument(o.kv_type);
  if (o.kv_budget) options.kv_budget = o.kv_budget;
  if (o.page_size) options.page_size = o.page_size;
  if (options.page_size != 8 && options.page_size != 16 && options.page_size != 32 &&
      options.page_size != 64) {
    invalid("options->page_size is " + std::to_string(o.page_size) + ", must be 8, 16, 32 or 64");
  }
  if (o.threads > kMaxThreads) {
    invalid("options->threads is " + std::to_string(o.threads) + ", at most " +
            std::to_string(kMaxThreads));
  }
  if (o.max_step_tokens > kMaxStepTokens) {
    invalid("options->max_step_tokens is " + std::to_string(o.max_step_tokens) + ", at most " +
            std::to_string(kMaxStepTokens));
  }
  options.threads = o.threads;
  options.max_session_tokens = o.max_session_tokens;
  options.max_step_tokens = o.max_step_tokens;
  options.anchor = text_argument(o.anchor, o.anchor_length, "options->anchor", true);
  check_flags(o.flags, TSR_CONTEXT_NO_PRIMER, "options->flags");
  const bool no_primer = o.flags & TSR_CONTEXT_NO_PRIMER;
  if (o.primer && no_primer) {
    invalid("options->primer is a text and options->flags has TSR_CONTEXT_NO_PRIMER; drop one");
  }
  options.primer = text_argument(o.primer, o.primer_length, "options->primer", true);
  options.neutral_primer = !o.primer && !no_primer;
  options.cache_folder =
      text_argument(o.cache_folder, o.cache_folder_length, "options->cache_folder", true);
  if (o.cache_folder && options.cache_folder.empty()) {
    invalid("options->cache_folder is empty; name a folder, or set it to NULL");
  }
  if (options.cache_folder.find('\0') != std::string::npos) {
    invalid("options->cache_folder must not contain a NUL byte");
  }
  if (!o.cache_folder && o.cache_budget) {
    invalid("options->cache_budget is " + std::to_string(o.cache_budget) +
            " without options->cache_folder; set both or neither");
  }
  if (o.cache_budget) options.cache_budget = o.cache_budget;
  return options;
}

}  // namespace

tsr_status tsr_context_create(tsr_model model, const tsr_context_options* options,
                              tsr_context* out) {
  return guarded([&] {
    const auto owner = find<ModelObject>(model);
    require(out, "out");
    engine::ContextOptions o =
        context_options(read_struct(options, version_1<tsr_context_options>, "options"));
    const uint32_t head_dim = owner->model->hyperparameters().head_dim;
    if (o.kv_type == KvType::q8_0 && head_dim % 32 != 0) {
      fail(Status::unsupported, "options->kv_type is TSR_KV_Q8_0, for heads of a multiple of 32 " +
                                    std::string("values; this model's have ") +
                                    std::to_string(head_dim));
    }
    o.log_error = [runtime = owner->runtime](const std::string& message) {
      runtime->log(TSR_LOG_ERROR, message);
    };
    o.log_warning = [runtime = owner->runtime](const std::string& message) {
      runtime->log(TSR_LOG_WARNING, message);
    };
    auto object = std::make_shared<ContextObject>();
    object->model = owner;
    object->engine = std::make_unique<engine::Context>(owner->model, o);
    *out = publish<tsr_context>(std::move(object));
  });
}

void tsr_context_destroy(tsr_context context) {
  clear_message();
  // Sessions may keep the context, but nobody can wait on this handle any more.
  if (const auto object = remove<ContextObject>(context)) object->engine->end_waits();
}

tsr_status tsr_context_wait(tsr_context context, int64_t timeout_ms, tsr_session* session) {
  return guarded([&] {
    const auto object = find<ContextObject>(context);
    require(session, "session");
    const uint64_t handle = object->engine->wait_any(timeout_argument(timeout_ms));
    if (handle == 0) fail(Status::timeout, "no session had an event in time");
    *session = reinterpret_cast<tsr_session>(handle);
  });
}

tsr_status tsr_context_flush(tsr_context context, int64_t timeout_ms) {
  return guarded([&] {
    if (!find<ContextObject>(context)->engine->flush(timeout_argument(timeout_ms))) {
      fail(Status::timeout, "texts still wait to be written to the cache folder");
    }
  });
}

tsr_status tsr_context_get_metrics(tsr_context context, tsr_metrics* metrics) {
  return guarded([&] {
    const auto object = find<ContextObject>(context);
    const engine::Metrics m = object->engine->metrics();
    tsr_metrics value{};
    value.page_size = m.page_size;
    value.page_bytes = m.page_bytes;
    value.pages_total = m.pages_total;
    value.pages_used = m.pages_used;
    value.pages_cached = m.pages_cached;
    value.pages_reserved = m.pages_reserved;
    value.pages_peak = m.pages_peak;
    value.sessions = m.sessions;
    value.chunks = m.chunks;
    value.chunk_hits = m.chunk_hits;
    value.chunk_misses = m.chunk_misses;
    value.prefix_tokens = m.prefix_tokens;
    value.shared_tokens = m.shared_tokens;
    value.computed_tokens = m.computed_tokens;
    value.generated_tokens = m.generated_tokens;
    value.steps = m.steps;
    value.drafted_tokens = m.drafted_tokens;
    value.accepted_tokens = m.accepted_tokens;
    value.chunks_loaded = m.chunks_loaded;
    value.chunks_stored = m.disk.stored;
    value.load_failures = m.disk.load_failures;
    value.store_failures = m.disk.store_failures;
    value.disk_bytes = m.disk.bytes;
    value.evicted_chunks = m.evicted_chunks;
    value.evicted_runs = m.evicted_runs;
    value.pages_pinned = m.pages_pinned;
    write_struct(metrics, value, version_1<tsr_metrics>, "metrics");
  });
}

tsr_status tsr_chunk_create_text(tsr_context context, const char* text, uint64_t length,
                                 const tsr_chunk_options* options, tsr_chunk* out) {
  return guarded([&] {
    const auto owner = find<ContextObject>(context);
    require(out, "out");
    const auto o = read_struct(options, version_1<tsr_chunk_options>, "options");
    check_flags(o.flags, TSR_TEXT_PARSE_SPECIAL | TSR_CHUNK_LAZY, "options->flags");
    if (o.reserved != 0) invalid("options->reserved is not 0; call its _init first");
    const std::string_view input = text_argument(text, length, "text");
    std::vector<int32_t> tokens =
        owner->model->model->tokenizer().encode(input, o.flags & TSR_TEXT_PARSE_SPECIAL);
    if (tokens.empty()) invalid("text has no tokens; a chunk needs at least one");
    auto object = std::make_shared<ChunkObject>();
    object->context = owner;
    object->text = owner->engine->create_chunk(std::move(tokens), o.flags & TSR_CHUNK_LAZY);
    *out = publish<tsr_chunk>(std::move(object));
  });
}

void tsr_chunk_destroy(tsr_chunk chunk) {
  clear_message();
  if (const auto object = remove<ChunkObject>(chunk)) {
    object->context->engine->end_chunk_waits(object->destroyed);
  }
}

tsr_status tsr_chunk_wait(tsr_chunk chunk, int64_t timeout_ms) {
  return guarded([&] {
    const auto object = find<ChunkObject>(chunk);
    if (!object->context->engine->wait_chunk(object->text, object->destroyed,
                                             timeout_argument(timeout_ms))) {
      fail(Status::timeout, "the chunk was not encoded in time");
    }
  });
}

tsr_status tsr_chunk_get_info(tsr_chunk chunk, tsr_chunk_info* info) {
  return guarded([&] {
    const auto object = find<ChunkObject>(chunk);
    const engine::ChunkInfo i = object->context->engine->chunk_info(object->text);
    tsr_chunk_info value{};
    value.state = static_cast<tsr_chunk_state>(i.state);
    value.tokens = i.tokens;
    value.bytes = i.bytes;
    value.uses = i.uses;
    value.identity[0] = i.identity.low;
    value.identity[1] = i.identity.high;
    value.sessions = i.sessions;
    value.disk_bytes = i.disk_bytes;
    value.cost = i.cost;
    value.pinned = i.pinned;
    write_struct(info, value, version_1<tsr_chunk_info>, "info");
  });
}

tsr_status tsr_context_list_chunks(tsr_context context, tsr_chunk_id* ids, uint64_t capacity,
                                   uint64_t* count) {
  return guarded([&] {
    const auto object = find<ContextObject>(context);
    require(count, "count");
    std::vector<tsr_chunk_id> all;
    for (const kv::Identity& identity : object->engine->list_chunks()) {
      all.push_back({identity.low, identity.high});
    }
    write_array<tsr_chunk_id>(all, ids, capacity, count, "ids", "count");
  });
}

tsr_status tsr_chunk_open(tsr_context context, const tsr_chunk_id* id, tsr_chunk* out) {
  return guarded([&] {
    const auto owner = find<ContextObject>(context);
    require(id, "id");
    require(out, "out");
    auto object = std::make_shared<ChunkObject>();
    object->context = owner;
    object->text = owner->engine->find_chunk({id->low, id->high});
    *out = publish<tsr_chunk>(std::move(object));
  });
}

tsr_status tsr_chunk_pin(tsr_chunk chunk, int32_t pinned) {
  return guarded([&] {
    const auto object = find<ChunkObject>(chunk);
    if (pinned != 0 && pinned != 1) {
      invalid("pinned is " + std::to_string(pinned) + ", must be 1 or 0");
    }
    object->context->engine->pin_chunk(object->text, pinned == 1);
  });
}

tsr_status tsr_chunk_drop(tsr_chunk chunk, uint64_t flags) {
  return guarded([&] {
    const auto object = find<ChunkObject>(chunk);
    check_flags(flags, TSR_DROP_MEMORY | TSR_DROP_DISK, "flags");
    const bool both = flags == 0;
    object->context->engine->drop_chunk(object->text, both || (flags & TSR_DROP_MEMORY),
                                        both || (flags & TSR_DROP_DISK));
  });
}
