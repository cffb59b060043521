#include "tests/bench/common/answers.hpp"

#include <map>
#include <stdexcept>
#include <string>

namespace bench {

tsr::GenerateOptions greedy(std::uint32_t max_tokens, bool ignore_end) {
  tsr::GenerateOptions options;
  options.max_tokens = max_tokens;
  if (ignore_end) options.flags = TSR_GENERATE_IGNORE_END;
  return options;
}

void read_together(const tsr::Context& context, std::span<tsr::Session> sessions,
                   std::uint32_t tokens,
                   const std::function<void(std::size_t, const tsr::Event&)>& see) {
  std::map<tsr_session, std::size_t> index;
  for (std::size_t i = 0; i < sessions.size(); ++i) index[sessions[i].get()] = i;
  std::size_t left = sessions.size();
  while (left > 0) {
    const std::size_t i = index.at(context.wait());
    while (const auto event = sessions[i].next(0)) {
      if (event->kind == TSR_EVENT_NONE) break;
      if (event->kind == TSR_EVENT_FAILED) throw std::runtime_error(std::string(event->text()));
      see(i, *event);
      if (event->kind != TSR_EVENT_DONE) continue;
      if (event->finish != TSR_FINISH_LENGTH || event->tokens != tokens)
        throw std::runtime_error("an answer ended before its length");
      --left;
    }
  }
}

}  // namespace bench
