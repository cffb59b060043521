// Tessera for C++17: RAII over tessera.h and nothing else. Calls have the names, rules and defaults
// of the C header; a status that is not TSR_OK becomes tsr::Exception. Objects are move-only and
// may be destroyed in any order. Text goes in as std::string_view and comes out as std::string.
//
//   tsr::Runtime runtime;
//   tsr::Model model(runtime, "model.gguf");
//   tsr::Context context(model);
//   tsr::Session session(context);
//   session.open_role(TSR_ROLE_USER);
//   session.add_text("What is a page table?");
//   session.close_role(TSR_ROLE_USER);
//   session.open_role(TSR_ROLE_ASSISTANT);
//   session.generate();
//   for (const tsr::Event& event : session.events()) std::cout << event.text();
#ifndef TESSERA_TESSERA_HPP
#define TESSERA_TESSERA_HPP

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/tessera.h"

namespace tsr {

class Exception : public std::runtime_error {
 public:
  Exception(tsr_status status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  tsr_status status() const noexcept { return status_; }

 private:
  tsr_status status_;
};

// Throws what the last call of this thread failed with, if it did.
inline void check(tsr_status status) {
  if (status != TSR_OK) throw Exception(status, tsr_last_error());
}

namespace detail {

// A C struct with struct_size set and zero, which means default, everywhere else.
template <typename T, tsr_status (*kInit)(T*, uint32_t)>
struct Prepared : T {
  Prepared() : T() { check(kInit(this, sizeof(T))); }
};

template <typename T, void (*kDestroy)(T)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) noexcept : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(other.release()) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      kDestroy(handle_);
      handle_ = other.release();
    }
    return *this;
  }
  ~Handle() { kDestroy(handle_); }

  T get() const noexcept { return handle_; }
  T release() noexcept { return std::exchange(handle_, nullptr); }
  void reset() noexcept { kDestroy(release()); }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

 protected:
  T handle_ = nullptr;
};

// Runs a sizing call twice: for the count, then into a buffer of that many elements; again where
// more has come meanwhile.
template <typename Buffer, typename Call>
Buffer sized(const Call& call) {
  uint64_t count = 0;
  check(call(nullptr, uint64_t{0}, &count));
  Buffer buffer;
  while (count > 0) {
    buffer.resize(static_cast<std::size_t>(count));
    const tsr_status status = call(buffer.data(), static_cast<uint64_t>(buffer.size()), &count);
    if (status == TSR_BUFFER_TOO_SMALL && count > buffer.size()) continue;
    check(status);
    break;
  }
  buffer.resize(static_cast<std::size_t>(count));
  return buffer;
}

}  // namespace detail

using RuntimeOptions = detail::Prepared<tsr_runtime_options, tsr_runtime_options_init>;
using DeviceInfo = detail::Prepared<tsr_device_info, tsr_device_info_init>;
using ModelOptions = detail::Prepared<tsr_model_options, tsr_model_options_init>;
using ModelInfo = detail::Prepared<tsr_model_info, tsr_model_info_init>;
using Metrics = detail::Prepared<tsr_metrics, tsr_metrics_init>;
using ChunkOptions = detail::Prepared<tsr_chunk_options, tsr_chunk_options_init>;
using ChunkInfo = detail::Prepared<tsr_chunk_info, tsr_chunk_info_init>;
using SessionOptions = detail::Prepared<tsr_session_options, tsr_session_options_init>;
using SessionInfo = detail::Prepared<tsr_session_info, tsr_session_info_init>;
using Report = detail::Prepared<tsr_report, tsr_report_init>;
using GateOptions = detail::Prepared<tsr_gate_options, tsr_gate_options_init>;
using GateResult = detail::Prepared<tsr_gate_result, tsr_gate_result_init>;

// Views `text`, which must live until the call that takes the message.
struct Message : detail::Prepared<tsr_message, tsr_message_init> {
  Message(tsr_role message_role, std::string_view message_text) {
    role = message_role;
    text = message_text.data();
    length = message_text.size();
  }
};
static_assert(sizeof(Message) == sizeof(tsr_message), "an array of Message is one of tsr_message");

struct ContextOptions : detail::Prepared<tsr_context_options, tsr_context_options_init> {
  // Views `view`, which must live until the context is created. Likewise set_primer.
  void set_anchor(std::string_view view) {
    anchor = view.data();
    anchor_length = view.size();
  }
  void set_primer(std::string_view view) {
    primer = view.data();
    primer_length = view.size();
  }
  void set_cache_folder(std::string_view view) {
    cache_folder = view.data();
    cache_folder_length = view.size();
  }
};

struct GenerateOptions : detail::Prepared<tsr_generate_options, tsr_generate_options_init> {
  // Views `view`, which must live until the answer is begun.
  void set_biases(const std::vector<tsr_logit_bias>& view) {
    biases = view.data();
    bias_count = view.size();
  }
};

class Runtime : public detail::Handle<tsr_runtime, tsr_runtime_destroy> {
 public:
  // VERSION_MISMATCH: the library that was found is not the one this header describes.
  explicit Runtime(const RuntimeOptions& options = {}) {
    if (tsr_abi_version() != TSR_ABI_VERSION) {
      throw Exception(TSR_VERSION_MISMATCH,
                      "libtessera has ABI " + std::to_string(tsr_abi_version()) +
                          ", this program needs " + std::to_string(TSR_ABI_VERSION));
    }
    check(tsr_runtime_create(&options, &handle_));
  }

  std::vector<DeviceInfo> devices() const {
    uint32_t count = 0;
    check(tsr_device_count(handle_, &count));
    std::vector<DeviceInfo> all(count);
    for (uint32_t i = 0; i < count; ++i) check(tsr_device_get(handle_, i, &all[i]));
    return all;
  }
};

class Model : public detail::Handle<tsr_model, tsr_model_destroy> {
 public:
  Model(const Runtime& runtime, std::string_view path, const ModelOptions& options = {}) {
    check(tsr_model_load(runtime.get(), path.data(), path.size(), &options, &handle_));
  }

  ModelInfo info() const {
    ModelInfo info;
    check(tsr_model_get_info(handle_, &info));
    return info;
  }

  std::vector<int32_t> tokenize(std::string_view text, uint64_t flags = 0) const {
    return detail::sized<std::vector<int32_t>>([&](int32_t* out, uint64_t room, uint64_t* count) {
      return tsr_tokenize(handle_, text.data(), text.size(), flags, out, room, count);
    });
  }

  std::string detokenize(const std::vector<int32_t>& tokens, uint64_t flags = 0) const {
    return detail::sized<std::string>([&](char* out, uint64_t room, uint64_t* count) {
      return tsr_detokenize(handle_, tokens.data(), tokens.size(), flags, out, room, count);
    });
  }

  std::string chat_format(const std::vector<Message>& messages,
                          tsr_role open_role = TSR_ROLE_NONE) const {
    return detail::sized<std::string>([&](char* out, uint64_t room, uint64_t* count) {
      return tsr_chat_format(handle_, messages.data(), messages.size(), open_role, out, room,
                             count);
    });
  }

  std::string chat_default_system() const {
    return detail::sized<std::string>([&](char* out, uint64_t room, uint64_t* count) {
      return tsr_chat_default_system(handle_, out, room, count);
    });
  }
};

class Context : public detail::Handle<tsr_context, tsr_context_destroy> {
 public:
  explicit Context(const Model& model, const ContextOptions& options = {}) {
    check(tsr_context_create(model.get(), &options, &handle_));
  }

  // The session (compare with Session::get) that has an event to read; NULL after `timeout_ms`.
  tsr_session wait(int64_t timeout_ms = TSR_WAIT_FOREVER) const {
    tsr_session session = nullptr;
    const tsr_status status = tsr_context_wait(handle_, timeout_ms, &session);
    if (status == TSR_TIMEOUT) return nullptr;
    check(status);
    return session;
  }

  // False: something still waited to be written to the cache folder after `timeout_ms`.
  bool flush(int64_t timeout_ms = TSR_WAIT_FOREVER) const {
    const tsr_status status = tsr_context_flush(handle_, timeout_ms);
    if (status == TSR_TIMEOUT) return false;
    check(status);
    return true;
  }

  Metrics metrics() const {
    Metrics metrics;
    check(tsr_context_get_metrics(handle_, &metrics));
    return metrics;
  }

  // `texts` and `questions` replace those of `options` where they are not empty.
  GateResult gate(const std::vector<std::string_view>& texts, GateOptions options = {},
                  const std::vector<std::string_view>& questions = {}) const {
    std::vector<tsr_text> views;
    for (std::string_view text : texts) views.push_back({text.data(), text.size()});
    for (std::string_view text : questions) views.push_back({text.data(), text.size()});
    if (!texts.empty()) {
      options.texts = views.data();
      options.text_count = texts.size();
    }
    if (!questions.empty()) {
      options.questions = views.data() + texts.size();
      options.question_count = questions.size();
    }
    GateResult result;
    check(tsr_context_gate(handle_, &options, &result));
    return result;
  }

  // What was measured for a setting; nothing where it never was.
  std::optional<GateResult> gate_result(const SessionOptions& options = {}) const {
    GateResult result;
    const tsr_status status = tsr_context_get_gate(handle_, &options, &result);
    if (status == TSR_NOT_FOUND) return std::nullopt;
    check(status);
    return result;
  }

  std::vector<tsr_chunk_id> chunks() const {
    return detail::sized<std::vector<tsr_chunk_id>>(
        [&](tsr_chunk_id* out, uint64_t room, uint64_t* count) {
          return tsr_context_list_chunks(handle_, out, room, count);
        });
  }
};

class Chunk : public detail::Handle<tsr_chunk, tsr_chunk_destroy> {
 public:
  Chunk(const Context& context, std::string_view text, const ChunkOptions& options = {}) {
    check(tsr_chunk_create_text(context.get(), text.data(), text.size(), &options, &handle_));
  }
  // A chunk that Context::chunks told of.
  static Chunk open(const Context& context, const tsr_chunk_id& id) {
    Chunk chunk;
    check(tsr_chunk_open(context.get(), &id, &chunk.handle_));
    return chunk;
  }

  // Whether the chunk is encoded now; false after `timeout_ms`.
  bool wait(int64_t timeout_ms = TSR_WAIT_FOREVER) const {
    const tsr_status status = tsr_chunk_wait(handle_, timeout_ms);
    if (status == TSR_TIMEOUT) return false;
    check(status);
    return true;
  }

  ChunkInfo info() const {
    ChunkInfo info;
    check(tsr_chunk_get_info(handle_, &info));
    return info;
  }

  void pin(bool pinned = true) const { check(tsr_chunk_pin(handle_, pinned ? 1 : 0)); }
  void drop(uint64_t flags = 0) const { check(tsr_chunk_drop(handle_, flags)); }

 private:
  Chunk() = default;
};

// text() is valid until the next event of the same session is taken; so is what top() copies.
class Event : public detail::Prepared<tsr_event, tsr_event_init> {
 public:
  std::string_view text() const noexcept {
    return {tsr_event::text, static_cast<std::size_t>(text_length)};
  }
  std::vector<tsr_token_logprob> top() const {
    if (top_count == 0) return {};
    return {tsr_event::top, tsr_event::top + top_count};
  }
};

class Session : public detail::Handle<tsr_session, tsr_session_destroy> {
 public:
  class Events;

  explicit Session(const Context& context, const SessionOptions& options = {}) {
    check(tsr_session_create(context.get(), &options, &handle_));
  }

  void add_anchor() { check(tsr_session_add_anchor(handle_)); }
  void add_text(std::string_view text, uint64_t flags = 0) {
    check(tsr_session_add_text(handle_, text.data(), text.size(), flags));
  }
  void add_tokens(const std::vector<int32_t>& tokens) {
    check(tsr_session_add_tokens(handle_, tokens.data(), tokens.size()));
  }
  void add_chunk(const Chunk& chunk) { check(tsr_session_add_chunk(handle_, chunk.get())); }
  void open_role(tsr_role role) { check(tsr_session_open_role(handle_, role)); }
  void close_role(tsr_role role) { check(tsr_session_close_role(handle_, role)); }

  // `stops` replaces options.stops where it is not empty.
  void generate(GenerateOptions options = {}, const std::vector<std::string_view>& stops = {}) {
    std::vector<tsr_text> texts;
    for (std::string_view stop : stops) texts.push_back({stop.data(), stop.size()});
    if (!texts.empty()) {
      options.stops = texts.data();
      options.stop_count = texts.size();
    }
    check(tsr_session_generate(handle_, &options));
  }

  // The next event; nothing after `timeout_ms`. Its kind is TSR_EVENT_NONE behind the last one.
  std::optional<Event> next(int64_t timeout_ms = TSR_WAIT_FOREVER) {
    Event event;
    const tsr_status status = tsr_session_next(handle_, timeout_ms, &event);
    if (status == TSR_TIMEOUT) return std::nullopt;
    check(status);
    return event;
  }

  // The events of the answer under way, DONE the last; a FAILED one is thrown.
  Events events();

  // Reads the answer under way to its end and returns the text that was left of it.
  std::string read();

  void cancel() { check(tsr_session_cancel(handle_)); }

  SessionInfo info() const {
    SessionInfo info;
    check(tsr_session_get_info(handle_, &info));
    return info;
  }

  std::vector<int32_t> tokens() const {
    return detail::sized<std::vector<int32_t>>([&](int32_t* out, uint64_t room, uint64_t* count) {
      return tsr_session_get_tokens(handle_, out, room, count);
    });
  }

  // Rows of ModelInfo::vocabulary logits.
  std::vector<float> evaluate(uint64_t flags = TSR_LOGITS_LAST) {
    return detail::sized<std::vector<float>>([&](float* out, uint64_t room, uint64_t* count) {
      return tsr_session_evaluate(handle_, flags, out, room, count);
    });
  }

  Report report() const {
    Report report;
    check(tsr_session_get_report(handle_, &report));
    return report;
  }

  // Another session that stands where this one does and shares its pages.
  Session fork() const {
    Session fork;
    check(tsr_session_fork(handle_, &fork.handle_));
    return fork;
  }

  // Keeps the first `tokens` tokens.
  void rewind(uint64_t tokens) { check(tsr_session_rewind(handle_, tokens)); }

  std::vector<uint8_t> save() const {
    return detail::sized<std::vector<uint8_t>>([&](uint8_t* out, uint64_t room, uint64_t* size) {
      return tsr_session_save(handle_, out, room, size);
    });
  }

  static Session restore(const Context& context, const std::vector<uint8_t>& bytes) {
    Session session;
    check(tsr_session_restore(context.get(), bytes.data(), bytes.size(), &session.handle_));
    return session;
  }

 private:
  Session() = default;
};

// One pass, a std::ranges::input_range from C++20 on: each step takes the next event and ends the
// view of the one before.
class Session::Events {
 public:
  struct End {};

  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Event;
    using difference_type = std::ptrdiff_t;
    using pointer = const Event*;
    using reference = const Event&;

    explicit Iterator(Session& session) : session_(&session) { ++*this; }
    reference operator*() const { return *event_; }
    pointer operator->() const { return &*event_; }
    Iterator& operator++() {
      event_ = session_->next();
      if (event_->kind == TSR_EVENT_FAILED) {
        throw Exception(event_->status, std::string(event_->text()));
      }
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& at, End) { return at.event_->kind == TSR_EVENT_NONE; }
    friend bool operator!=(const Iterator& at, End end) { return !(at == end); }
    friend bool operator==(End end, const Iterator& at) { return at == end; }
    friend bool operator!=(End end, const Iterator& at) { return !(at == end); }

   private:
    Session* session_;
    std::optional<Event> event_;
  };

  explicit Events(Session& session) : session_(&session) {}
  Iterator begin() const { return Iterator(*session_); }
  End end() const { return {}; }

 private:
  Session* session_;
};

inline Session::Events Session::events() {
  return Events(*this);
}

inline std::string Session::read() {
  std::string text;
  for (const Event& event : events()) text += event.text();
  return text;
}

}  // namespace tsr

#endif  // TESSERA_TESSERA_HPP
