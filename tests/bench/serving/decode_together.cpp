#include "tests/bench/serving/decode_together.hpp"

#include <map>
#include <stdexcept>
#include <string>

#include "tests/bench/serving/bench.hpp"

namespace serving {
namespace {

// From when each session has a token until the first one has all of its tokens.
class Window {
 public:
  Window(const tsr::Context& context, std::size_t sessions)
      : context_(context), silent_(sessions) {}

  void see(const tsr::Event& event, bool& spoke) {
    if (!spoke && event.tokens > 0) {
      spoke = true;
      if (--silent_ == 0) open();
    }
    if (event.kind == TSR_EVENT_DONE && !closed_) close();
  }

  // 0 where one was done before another had begun.
  double tokens_per_second() const {
    return silent_ == 0 && tokens_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0;
  }

 private:
  void open() {
    tokens_at_open_ = context_.metrics().generated_tokens;
    opened_ = Clock::now();
  }
  void close() {
    closed_ = true;
    if (silent_ > 0) return;
    seconds_ = seconds_since(opened_);
    tokens_ = context_.metrics().generated_tokens - tokens_at_open_;
  }

  const tsr::Context& context_;
  std::size_t silent_;
  Clock::time_point opened_;
  std::uint64_t tokens_at_open_ = 0;
  bool closed_ = false;
  double seconds_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace

double decode_together(const tsr::Context& context, std::vector<tsr::Session>& sessions,
                       const tsr::GenerateOptions& options) {
  std::map<tsr_session, std::size_t> index;
  for (std::size_t i = 0; i < sessions.size(); ++i) index[sessions[i].get()] = i;
  for (tsr::Session& session : sessions) session.generate(options);
  Window window(context, sessions.size());
  std::vector<char> spoke(sessions.size(), false);
  std::size_t left = sessions.size();
  while (left > 0) {
    const std::size_t i = index.at(context.wait());
    while (const auto event = sessions[i].next(0)) {
      if (event->kind == TSR_EVENT_NONE) break;
      if (event->kind == TSR_EVENT_FAILED) throw std::runtime_error(std::string(event->text()));
      bool has = spoke[i];
      window.see(*event, has);
      spoke[i] = has;
      if (event->kind != TSR_EVENT_DONE) continue;
      if (event->finish != TSR_FINISH_LENGTH || event->tokens != options.max_tokens)
        throw std::runtime_error("an answer ended before its length");
      --left;
    }
  }
  return window.tokens_per_second();
}

}  // namespace serving
