// Sessions.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/roles.hpp"
#include "runtime/abi/session_call.hpp"
#include "runtime/abi/session_options.hpp"
#include "runtime/abi/status.hpp"
#include "runtime/abi/structs.hpp"

using namespace tessera;
using namespace tessera::abi;

static_assert(TSR_EVENT_NONE == static_cast<int32_t>(engine::EventKind::none));
static_assert(TSR_EVENT_PROGRESS == static_cast<int32_t>(engine::EventKind::progress));
static_assert(TSR_EVENT_TEXT == static_cast<int32_t>(engine::EventKind::text));
static_assert(TSR_EVENT_DONE == static_cast<int32_t>(engine::EventKind::done));
static_assert(TSR_EVENT_FAILED == static_cast<int32_t>(engine::EventKind::failed));
static_assert(TSR_EVENT_TOKEN == static_cast<int32_t>(engine::EventKind::token));
static_assert(TSR_FINISH_END == static_cast<int32_t>(engine::Finish::end));
static_assert(TSR_FINISH_STOP == static_cast<int32_t>(engine::Finish::stop));
static_assert(TSR_FINISH_LENGTH == static_cast<int32_t>(engine::Finish::length));
static_assert(TSR_FINISH_CANCELLED == static_cast<int32_t>(engine::Finish::cancelled));

namespace {

constexpr uint32_t kMaxEventCapacity = 1u << 20;
constexpr uint64_t kMaxStops = 16;
constexpr uint64_t kMaxStopBytes = 256;
constexpr float kMaxPenalty = 100;
constexpr uint64_t kMaxBiases = 1024;
constexpr float kMaxBias = 1000;
constexpr uint32_t kMaxLookup = 64;
constexpr float kMaxKl = 1000;  // nats

engine::Repair repair_of(tsr_repair repair) {
  switch (repair) {
    case TSR_REPAIR_NONE:
      return engine::Repair::none;
    case TSR_REPAIR_HEAD:
      return engine::Repair::head;
    case TSR_REPAIR_SELECT:
      return engine::Repair::select;
    case TSR_REPAIR_FULL:
      return engine::Repair::full;
    default:
      return engine::Repair::head_select;
  }
}

std::vector<engine::LogitBias> biases(const tsr_generate_options& o, uint32_t vocabulary) {
  if (o.bias_count > kMaxBiases) {
    invalid("options->bias_count is " + std::to_string(o.bias_count) + ", at most " +
            std::to_string(kMaxBiases));
  }
  if (o.bias_count > 0) require(o.biases, "options->biases");
  std::vector<engine::LogitBias> all;
  std::unordered_map<int32_t, uint64_t> places;
  uint64_t banned = 0;
  for (uint64_t i = 0; i < o.bias_count; ++i) {
    const tsr_logit_bias& b = o.biases[i];
    const std::string name = "options->biases[" + std::to_string(i) + "]";
    if (b.token < 0 || static_cast<uint32_t>(b.token) >= vocabulary) {
      invalid(name + ".token is " + std::to_string(b.token) + ", must be 0 to " +
              std::to_string(vocabulary - 1));
    }
    const auto [place, fresh] = places.emplace(b.token, i);
    if (!fresh) {
      invalid(name + ".token is " + std::to_string(b.token) + ", as that of options->biases[" +
              std::to_string(place->second) + "]; each token may have one bias");
    }
    if (b.bias == -INFINITY) {
      ++banned;
    } else if (!(std::abs(b.bias) <= kMaxBias)) {
      invalid(name + ".bias of token " + std::to_string(b.token) + " is " + std::to_string(b.bias) +
              ", must be -1000 to 1000, or -INFINITY");
    }
    all.push_back({b.token, b.bias});
  }
  if (banned == vocabulary) {
    invalid("options->biases ban all " + std::to_string(vocabulary) +
            " tokens; leave at least one");
  }
  return all;
}

engine::PenaltyOptions penalty_options(const tsr_generate_options& o, uint32_t vocabulary) {
  engine::PenaltyOptions options;
  if (o.repetition_penalty != 0) {
    options.repetition = number_argument(o.repetition_penalty, 1 / kMaxPenalty, kMaxPenalty,
                                         "options->repetition_penalty");
  }
  options.frequency =
      number_argument(o.frequency_penalty, -kMaxPenalty, kMaxPenalty, "options->frequency_penalty");
  options.presence =
      number_argument(o.presence_penalty, -kMaxPenalty, kMaxPenalty, "options->presence_penalty");
  if (o.penalty_window) options.window = o.penalty_window;
  options.biases = biases(o, vocabulary);
  return options;
}

engine::GenerateOptions generate_options(const tsr_generate_options& o, const model::Model& model) {
  engine::GenerateOptions options;
  options.max_tokens = o.max_tokens;
  options.sampling.temperature = number_argument(o.temperature, 0, 1000, "options->temperature");
  const float top_p = number_argument(o.top_p, 0, 1, "options->top_p");
  options.sampling.top_p = top_p == 0 ? 1 : top_p;
  options.sampling.min_p = number_argument(o.min_p, 0, 1, "options->min_p");
  options.sampling.top_k = o.top_k;
  options.sampling.seed = o.seed;
  if (o.logprobs > kMaxLogprobs) {
    invalid("options->logprobs is " + std::to_string(o.logprobs) + ", at most " +
            std::to_string(kMaxLogprobs));
  }
  options.sampling.logprobs = o.logprobs;
  if (o.lookup_tokens > kMaxLookup) {
    invalid("options->lookup_tokens is " + std::to_string(o.lookup_tokens) + ", at most " +
            std::to_string(kMaxLookup));
  }
  options.lookup_tokens = o.lookup_tokens;
  options.penalties = penalty_options(o, model.hyperparameters().vocabulary);
  check_flags(o.flags, TSR_GENERATE_IGNORE_END, "options->flags");
  options.ignore_end = o.flags & TSR_GENERATE_IGNORE_END;
  if (o.stop_count > kMaxStops) {
    invalid("options->stop_count is " + std::to_string(o.stop_count) + ", at most " +
            std::to_string(kMaxStops));
  }
  if (o.stop_count > 0) require(o.stops, "options->stops");
  for (uint64_t i = 0; i < o.stop_count; ++i) {
    const std::string name = "options->stops[" + std::to_string(i) + "]";
    const std::string_view stop = text_argument(o.stops[i].data, o.stops[i].length, name.c_str());
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      invalid(name + " has " + std::to_string(stop.size()) + " bytes, must have 1 to " +
              std::to_string(kMaxStopBytes));
    }
    options.stops.emplace_back(stop);
  }
  return options;
}

}  // namespace

engine::SessionOptions abi::session_options(const tsr_session_options& o,
                                            const model::Model& model) {
  if (o.repair < TSR_REPAIR_DEFAULT || o.repair > TSR_REPAIR_FULL) {
    invalid("options->repair is " + std::to_string(o.repair) + ", must be a TSR_REPAIR value");
  }
  number_argument(o.select_share, 0, 1, "options->select_share");
  number_argument(o.select_layers, 0, 1, "options->select_layers");
  if (!(supported_repairs(model) >> o.repair & 1)) {
    fail(Status::unsupported, "options->repair is " + std::to_string(o.repair) +
                                  "; this release and model support what "
                                  "tsr_model_info.repair_modes lists: " +
                                  std::to_string(supported_repairs(model)));
  }
  if (o.event_capacity > kMaxEventCapacity) {
    invalid("options->event_capacity is " + std::to_string(o.event_capacity) + ", at most " +
            std::to_string(kMaxEventCapacity));
  }
  check_flags(o.flags, TSR_SESSION_RESELECT, "options->flags");
  number_argument(o.max_kl, 0, kMaxKl, "options->max_kl");
  if (o.reserved != 0) invalid("options->reserved is not 0; call its _init first");
  engine::SessionOptions options;
  if (o.event_capacity) options.event_capacity = o.event_capacity;
  if (o.head_tokens) options.head_tokens = o.head_tokens;
  if (o.select_share != 0) options.select_share = o.select_share;
  if (o.select_layers != 0) options.select_layers = o.select_layers;
  options.max_kl = o.max_kl;
  options.reselect = o.flags & TSR_SESSION_RESELECT;
  const bool shares = model.architecture().sharing_refusal().empty();
  options.repair = shares ? repair_of(o.repair) : engine::Repair::full;
  return options;
}

tsr_status tsr_session_create(tsr_context context, const tsr_session_options* options,
                              tsr_session* out) {
  return guarded([&] {
    const auto owner = find<ContextObject>(context);
    require(out, "out");
    const auto o = read_struct(options, version_1<tsr_session_options>, "options");
    const engine::SessionOptions checked = session_options(o, *owner->model->model);
    auto object = std::make_shared<SessionObject>();
    object->context = owner;
    object->state = owner->engine->create_session(checked);
    const auto handle = publish<tsr_session>(object);
    owner->engine->set_handle(*object->state, reinterpret_cast<uint64_t>(handle));
    *out = handle;
  });
}

void tsr_session_destroy(tsr_session session) {
  clear_message();
  // Another thread may be inside a call on it; closing wakes that call.
  if (const auto object = remove<SessionObject>(session)) {
    object->context->engine->close_session(*object->state);
  }
}

tsr_status tsr_session_add_anchor(tsr_session session) {
  return guarded([&] {
    const SessionCall call(session);
    call.engine().add_anchor(call.state());
  });
}

tsr_status tsr_session_add_text(tsr_session session, const char* text, uint64_t length,
                                uint64_t flags) {
  return guarded([&] {
    const SessionCall call(session);
    check_flags(flags, TSR_TEXT_PARSE_SPECIAL, "flags");
    const std::string_view input = text_argument(text, length, "text");
    const std::vector<int32_t> tokens =
        call.model().tokenizer().encode(input, flags & TSR_TEXT_PARSE_SPECIAL);
    call.engine().add_tokens(call.state(), tokens);
  });
}

tsr_status tsr_session_add_tokens(tsr_session session, const int32_t* tokens, uint64_t count) {
  return guarded([&] {
    const SessionCall call(session);
    if (count > 0) require(tokens, "tokens");
    if (count > kMaxTokens) {
      invalid("count is " + std::to_string(count) + ", at most " + std::to_string(kMaxTokens));
    }
    const std::span ids(tokens, count);
    check_tokens(ids, call.model().tokenizer().size());
    call.engine().add_tokens(call.state(), ids);
  });
}

tsr_status tsr_session_add_chunk(tsr_session session, tsr_chunk chunk) {
  return guarded([&] {
    const SessionCall call(session);
    const auto other = find<ChunkObject>(chunk);
    if (other->context != call->context) {
      invalid("chunk belongs to another context; create it in the session's own");
    }
    call.engine().add_chunk(call.state(), other->text);
  });
}

tsr_status tsr_session_open_role(tsr_session session, tsr_role role) {
  return guarded([&] {
    const SessionCall call(session);
    const text::Role checked = role_argument(role, "role");
    call.engine().add_tokens(call.state(), call.model().chat_template().open(checked));
  });
}

tsr_status tsr_session_close_role(tsr_session session, tsr_role role) {
  return guarded([&] {
    const SessionCall call(session);
    const text::Role checked = role_argument(role, "role");
    call.engine().add_tokens(call.state(), call.model().chat_template().close(checked));
  });
}

tsr_status tsr_session_generate(tsr_session session, const tsr_generate_options* options) {
  return guarded([&] {
    const SessionCall call(session);
    const auto o = read_struct(options, version_1<tsr_generate_options>, "options");
    call.engine().generate(call.state(), generate_options(o, call.model()));
  });
}

tsr_status tsr_session_next(tsr_session session, int64_t timeout_ms, tsr_event* event) {
  return guarded([&] {
    const SessionCall call(session);
    require(event, "event");
    check_struct(event, sizeof(tsr_event), version_1<tsr_event>, false, "event");
    if (!call.engine().next(call.state(), timeout_argument(timeout_ms), call->event)) {
      fail(Status::timeout, "no event came in time");
    }
    const engine::Event& e = call->event;
    tsr_event value{};
    value.kind = static_cast<tsr_event_kind>(e.kind);
    value.text = e.text.data();
    value.text_length = e.text.size();
    value.finish = static_cast<tsr_finish>(e.finish);
    value.status = static_cast<tsr_status>(e.status);
    value.processed = e.processed;
    value.total = e.total;
    value.tokens = e.tokens;
    value.token = e.token.chosen.token;
    value.logprob = e.token.chosen.logprob;
    std::ranges::transform(e.token.top, call->top.begin(), [](const engine::TokenLogprob& t) {
      return tsr_token_logprob{t.token, t.logprob};
    });
    value.top = e.token.top.empty() ? nullptr : call->top.data();
    value.top_count = e.token.top.size();
    write_struct(event, value, version_1<tsr_event>, "event");
  });
}

tsr_status tsr_session_cancel(tsr_session session) {
  return guarded([&] {
    const auto object = find<SessionObject>(session);
    object->context->engine->cancel(*object->state);
  });
}

tsr_status tsr_session_get_info(tsr_session session, tsr_session_info* info) {
  return guarded([&] {
    const SessionCall call(session);
    const engine::SessionInfo i = call.engine().info(call.state());
    tsr_session_info value{};
    value.generating = i.generating ? 1 : 0;
    value.tokens = i.tokens;
    value.computed = i.computed;
    value.max_tokens = i.max_tokens;
    write_struct(info, value, version_1<tsr_session_info>, "info");
  });
}

tsr_status tsr_session_get_tokens(tsr_session session, int32_t* tokens, uint64_t capacity,
                                  uint64_t* count) {
  return guarded([&] {
    const SessionCall call(session);
    const std::vector<int32_t> all = call.engine().tokens(call.state());
    write_array<int32_t>(all, tokens, capacity, count, "tokens", "count");
  });
}

tsr_status tsr_session_evaluate(tsr_session session, uint64_t flags, float* logits,
                                uint64_t capacity, uint64_t* count) {
  return guarded([&] {
    const SessionCall call(session);
    check_flags(flags, TSR_LOGITS_ALL, "flags");
    require(count, "count");
    const bool all = flags & TSR_LOGITS_ALL;
    *count = call.engine().evaluate_size(call.state(), all);
    if (capacity == 0) return;
    require(logits, "logits");
    if (capacity < *count) {
      fail(Status::buffer_too_small, "the logits need room for " + std::to_string(*count) +
                                         " floats, capacity is " + std::to_string(capacity));
    }
    const std::vector<float> rows = call.engine().evaluate(call.state(), all);
    write_array<float>(rows, logits, capacity, count, "logits", "count");
  });
}

tsr_status tsr_session_get_report(tsr_session session, tsr_report* report) {
  return guarded([&] {
    const SessionCall call(session);
    const engine::Report r = call.engine().report(call.state());
    tsr_report value{};
    value.tokens_exact = r.tokens_exact;
    value.tokens_repaired = r.tokens_repaired;
    value.tokens_approximate = r.tokens_approximate;
    value.tokens_computed = r.tokens_computed;
    value.tokens_generated = r.tokens_generated;
    value.bytes_shared = r.bytes_shared;
    value.bytes_private = r.bytes_private;
    value.lookup_us = r.lookup_us;
    value.load_us = r.load_us;
    value.repair_us = r.repair_us;
    value.prompt_us = r.prompt_us;
    value.first_token_us = r.first_token_us;
    value.generate_us = r.generate_us;
    value.tokens_drafted = r.tokens_drafted;
    value.tokens_accepted = r.tokens_accepted;
    write_struct(report, value, version_1<tsr_report>, "report");
  });
}
