// Small conversions that several entry points share.
#pragma once

#include "include/tessera/tessera.h"
#include "runtime/model/model.hpp"
#include "runtime/text/chat_template.hpp"

namespace tessera::abi {

text::Role role_argument(tsr_role role, const char* name);

// Bits of tsr_model_info.repair_modes.
inline uint64_t supported_repairs(const model::Model& model) {
  const bool shares = model.architecture().sharing_refusal().empty();
  const auto bit = [](tsr_repair repair) { return uint64_t{1} << repair; };
  const uint64_t always = bit(TSR_REPAIR_DEFAULT) | bit(TSR_REPAIR_FULL);
  return shares ? always | bit(TSR_REPAIR_NONE) | bit(TSR_REPAIR_HEAD) | bit(TSR_REPAIR_SELECT) |
                      bit(TSR_REPAIR_HEAD_SELECT)
                : always;
}

}  // namespace tessera::abi
