// Sessions as values: forked, taken back, saved and restored.
#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/session_call.hpp"
#include "runtime/abi/status.hpp"

using namespace tessera;
using namespace tessera::abi;

namespace {

tsr_session published(std::shared_ptr<ContextObject> context, engine::SessionRef state) {
  auto object = std::make_shared<SessionObject>();
  object->context = std::move(context);
  object->state = std::move(state);
  const auto handle = publish<tsr_session>(object);
  object->context->engine->set_handle(*object->state, reinterpret_cast<uint64_t>(handle));
  return handle;
}

}  // namespace

tsr_status tsr_session_fork(tsr_session session, tsr_session* out) {
  return guarded([&] {
    const SessionCall call(session);
    require(out, "out");
    *out = published(call->context, call.engine().fork(call.state()));
  });
}

tsr_status tsr_session_rewind(tsr_session session, uint64_t tokens) {
  return guarded([&] {
    const SessionCall call(session);
    call.engine().rewind(call.state(), tokens);
  });
}

tsr_status tsr_session_save(tsr_session session, void* bytes, uint64_t capacity, uint64_t* size) {
  return guarded([&] {
    const SessionCall call(session);
    require(size, "size");
    if (capacity > 0) require(bytes, "bytes");
    *size = call.engine().save(call.state(), static_cast<uint8_t*>(bytes), capacity);
    if (capacity > 0 && capacity < *size) {
      fail(Status::buffer_too_small, "bytes needs room for " + std::to_string(*size) +
                                         ", capacity is " + std::to_string(capacity));
    }
  });
}

tsr_status tsr_session_restore(tsr_context context, const void* bytes, uint64_t size,
                               tsr_session* out) {
  return guarded([&] {
    const auto owner = find<ContextObject>(context);
    require(bytes, "bytes");
    require(out, "out");
    *out = published(owner, owner->engine->restore({static_cast<const uint8_t*>(bytes), size}));
  });
}
