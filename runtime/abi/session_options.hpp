// The options of a session, checked; sessions and the gate take them.
#pragma once

#include "include/tessera/tessera.h"
#include "runtime/engine/session_state.hpp"
#include "runtime/model/model.hpp"

namespace tessera::abi {

engine::SessionOptions session_options(const tsr_session_options& options,
                                       const model::Model& model);

}  // namespace tessera::abi
