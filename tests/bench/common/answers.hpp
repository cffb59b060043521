// Answers of a given length, of one session or of many at once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <tessera/tessera.hpp>

namespace bench {

// Greedy, as many tokens as that.
tsr::GenerateOptions greedy(std::uint32_t max_tokens, bool ignore_end = true);

// Reads sessions that generate until all are done, whichever has an event; `see` is told each event
// and its session's index. Throws where one fails or has not `tokens` tokens in the end.
void read_together(const tsr::Context& context, std::span<tsr::Session> sessions,
                   std::uint32_t tokens,
                   const std::function<void(std::size_t, const tsr::Event&)>& see);

}  // namespace bench
