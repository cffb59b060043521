// Small conversions that several entry points share.
#pragma once

#include "include/tessera/tessera.h"
#include "runtime/model/model.hpp"
#include "runtime/text/chat_template.hpp"

namespace tessera::abi {

text::Role role_argument(tsr_role role, const char* name);

// Bits of tsr_model_info.repair_modes.
inline uint64_t supported_repairs(const model::Model& model) {
  uint64_t modes = uint64_t{1} << TSR_REPAIR_DEFAULT | uint64_t{1} << TSR_REPAIR_FULL;
  if (model.architecture().sharing_refusal().empty()) modes |= uint64_t{1} << TSR_REPAIR_NONE;
  return modes;
}

}  // namespace tessera::abi
