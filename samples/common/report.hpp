// The report of an answer, for people and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <tessera/tessera.hpp>

namespace common {

// Tokens a second from the first generated token to the last; 0 with fewer than two.
double tokens_per_second(const tsr::Report& report);

// "prompt 640 tokens: 30 exact, 0 repaired, 580 approximate, 30 computed
//  first token after 95 ms, then 61.2 tokens/s (58 tokens)", two lines without a last newline;
// what became of drafts is told behind them where there were any.
std::string format_report(const tsr::Report& report);

// Every field of tsr_report under its name, and tokens_per_second.
nlohmann::json report_json(const tsr::Report& report);

}  // namespace common
