#include "tests/bench/serving/decode_together.hpp"

#include "tests/bench/common/answers.hpp"
#include "tests/bench/common/figures.hpp"

namespace serving {
namespace {

// From when each session has a token until the first one has all of its tokens.
class Window {
 public:
  Window(const tsr::Context& context, std::size_t sessions)
      : context_(context), spoke_(sessions, false), silent_(sessions) {}

  void see(std::size_t session, const tsr::Event& event) {
    if (!spoke_[session] && event.tokens > 0) {
      spoke_[session] = true;
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
    opened_ = bench::Clock::now();
  }
  void close() {
    closed_ = true;
    if (silent_ > 0) return;
    seconds_ = bench::seconds_since(opened_);
    tokens_ = context_.metrics().generated_tokens - tokens_at_open_;
  }

  const tsr::Context& context_;
  std::vector<bool> spoke_;
  std::size_t silent_;
  bench::Clock::time_point opened_;
  std::uint64_t tokens_at_open_ = 0;
  bool closed_ = false;
  double seconds_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace

double decode_together(const tsr::Context& context, std::vector<tsr::Session>& sessions,
                       const tsr::GenerateOptions& options) {
  for (tsr::Session& session : sessions) session.generate(options);
  Window window(context, sessions.size());
  bench::read_together(
      context, sessions, options.max_tokens,
      [&](std::size_t session, const tsr::Event& event) { window.see(session, event); });
  return window.tokens_per_second();
}

}  // namespace serving
