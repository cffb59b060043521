// CacheBlend's choice: the tokens whose keys change most when a chunk stands in a prompt.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/engine/context.hpp"

namespace tessera::quality {

// Logical positions of the `count` tokens of the session's chunks whose keys in layer 1 differ most
// (squared distance over all KV heads) between the chunk as encoded and the session's own, largest
// first. The session computed all its chunks in place (Repair::full); the chunks have their KV.
// Keys of both are in the chunk's frame. F32 and F16 KV on the CPU; throws unsupported otherwise.
std::vector<uint32_t> most_changed(engine::Context& context, const engine::SessionState& session,
                                   size_t count);

}  // namespace tessera::quality
