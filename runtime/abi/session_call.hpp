// A session inside a call of the API.
#pragma once

#include <memory>

#include "backends/error.hpp"
#include "runtime/abi/objects.hpp"

namespace tessera::abi {

// A session for the length of one call; the second caller at a time is turned away.
class SessionCall {
 public:
  explicit SessionCall(tsr_session session) : object_(find<SessionObject>(session)) {
    if (object_->busy.exchange(true, std::memory_order_acquire)) {
      fail(Status::busy, "another call on this session is running");
    }
  }
  ~SessionCall() { object_->busy.store(false, std::memory_order_release); }
  SessionCall(const SessionCall&) = delete;
  SessionCall& operator=(const SessionCall&) = delete;

  SessionObject* operator->() const { return object_.get(); }
  engine::Context& engine() const { return *object_->context->engine; }
  engine::SessionState& state() const { return *object_->state; }
  const model::Model& model() const { return *object_->context->model->model; }

 private:
  std::shared_ptr<SessionObject> object_;
};

}  // namespace tessera::abi
