// What is compared, in terms of the engine's options.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/engine/session_state.hpp"

namespace tessera::quality {

inline constexpr uint32_t kPage = 16;  // tokens

// How the memory of a method is counted: pages of chunks serve every session, or each session has a
// copy of all it sees.
enum class Accounting : uint8_t { shared, copies };

struct Method {
  const char* name;
  bool alone;  // chunks are encoded with nothing before them, else behind anchor and primer
  engine::Repair repair;
  Accounting accounting = Accounting::shared;
  uint32_t head_tokens = 0;  // of each chunk; 0: as the settings say
  bool key_change = false;   // recomputes the tokens whose keys differ most, 15 %
  bool anchor_text = false;  // not even the anchor is reused
};

// full: an ordinary prompt, all of it computed. prefix: ordinary prefix caching; only the anchor
// is found, since the chunks of every prompt are others. reuse: chunks alone, moved, nothing
// repaired. epic (2410.15332): alone, the first 16 tokens recomputed, a copy a session.
// cacheblend (2405.16444): alone, the 15 % whose keys change most in layer 1, a copy a session.
// mepic (2512.16822, an interpretation): alone, the first page recomputed, the rest shared. The
// others are this library's dial behind a primer.
inline constexpr std::array kMethods = {
    Method{"full", false, engine::Repair::full, Accounting::copies, 0, false, true},
    Method{"prefix", false, engine::Repair::full},
    Method{"reuse", true, engine::Repair::none},
    Method{"epic", true, engine::Repair::head, Accounting::copies, 16},
    Method{"cacheblend", true, engine::Repair::select, Accounting::copies, 0, true},
    Method{"mepic", true, engine::Repair::head, Accounting::shared, kPage},
    Method{"none", false, engine::Repair::none},
    Method{"head", false, engine::Repair::head},
    Method{"select", false, engine::Repair::select},
    Method{"default", false, engine::Repair::head_select},
};

inline constexpr double kCacheBlendShare = 0.15;

}  // namespace tessera::quality
