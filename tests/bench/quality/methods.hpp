// What is compared, in terms of the engine's options.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "runtime/engine/session_state.hpp"

namespace tessera::quality {

// How the memory of a method is counted: pages that others may use are shared, or every session
// has a copy of all it sees.
enum class Accounting : uint8_t { shared, copies };

struct Method {
  const char* name;
  bool alone;  // chunks are encoded with nothing before them, else behind anchor and primer
  engine::Repair repair;
  bool whole_page = false;   // the head is a page long
  bool cacheblend = false;   // recomputes the tokens whose keys differ most, 15 %
  bool anchor_text = false;  // not even the anchor is reused
  Accounting accounting = Accounting::shared;
};

// full: an ordinary prompt; the reference. prefix: the same, the anchor's KV reused (chunks stand
// in another order each time). reuse: chunks alone, moved, nothing repaired. epic (2410.15332):
// alone, the first 16 tokens recomputed, a copy a request. cacheblend (2405.16444): alone, the 15 %
// with the largest change of keys after one layer, a copy a request. mepic (2512.16822, an
// interpretation): alone, the first page recomputed, the rest shared. The others are this
// library's dial behind a primer.
inline constexpr std::array kMethods = {
    Method{"full", false, engine::Repair::full, false, false, true},
    Method{"prefix", false, engine::Repair::full},
    Method{"reuse", true, engine::Repair::none},
    Method{"epic", true, engine::Repair::head, false, false, false, Accounting::copies},
    Method{"cacheblend", true, engine::Repair::select, false, true, false, Accounting::copies},
    Method{"mepic", true, engine::Repair::head, true},
    Method{"none", false, engine::Repair::none},
    Method{"head", false, engine::Repair::head},
    Method{"select", false, engine::Repair::select},
    Method{"default", false, engine::Repair::head_select},
};

inline constexpr double kCacheBlendShare = 0.15;

}  // namespace tessera::quality
