// What handles stand for. Each object keeps alive what it needs, so the order in which handles are
// destroyed does not matter.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "include/tessera/tessera.h"
#include "runtime/abi/handle_table.hpp"
#include "runtime/engine/context.hpp"
#include "runtime/model/model.hpp"

namespace tessera::abi {

struct Runtime {
  static constexpr HandleKind kKind = HandleKind::runtime;
  tsr_log_callback callback = nullptr;
  void* user_data = nullptr;
  tsr_log_level level = TSR_LOG_WARNING;

  void log(tsr_log_level message_level, const std::string& message) const {
    if (callback && message_level <= level) {
      callback(user_data, message_level, message.data(), message.size());
    }
  }
};

struct ModelObject {
  static constexpr HandleKind kKind = HandleKind::model;
  std::shared_ptr<Runtime> runtime;
  std::shared_ptr<model::Model> model;
};

struct ContextObject {
  static constexpr HandleKind kKind = HandleKind::context;
  std::shared_ptr<ModelObject> model;
  std::unique_ptr<engine::Context> engine;
};

struct ChunkObject {
  static constexpr HandleKind kKind = HandleKind::chunk;
  std::shared_ptr<ContextObject> context;
  kv::CanonicalRef text;
  bool destroyed = false;  // the handle; under the engine's lock
  ~ChunkObject() { context->engine->release_chunk(std::move(text)); }
};

inline constexpr uint32_t kMaxLogprobs = 20;

struct SessionObject {
  static constexpr HandleKind kKind = HandleKind::session;
  std::shared_ptr<ContextObject> context;
  engine::SessionRef state;
  std::atomic<bool> busy{false};  // a call is running
  engine::Event event;            // the last one read; tsr_event.text points into it
  std::array<tsr_token_logprob, kMaxLogprobs> top{};  // of that event
  ~SessionObject() {
    if (state) context->engine->close_session(*state);
  }
};

template <typename Object, typename Handle>
std::shared_ptr<Object> find(Handle handle) {
  return std::static_pointer_cast<Object>(
      HandleTable::instance().find(Object::kKind, reinterpret_cast<uint64_t>(handle)));
}

template <typename Object, typename Handle>
std::shared_ptr<Object> remove(Handle handle) noexcept {
  return std::static_pointer_cast<Object>(
      HandleTable::instance().remove(Object::kKind, reinterpret_cast<uint64_t>(handle)));
}

template <typename Handle, typename Object>
Handle publish(std::shared_ptr<Object> object) {
  return reinterpret_cast<Handle>(HandleTable::instance().insert(Object::kKind, std::move(object)));
}

}  // namespace tessera::abi
