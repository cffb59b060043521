#include "samples/common/answer.hpp"

#include <unistd.h>

#include <cstdio>

namespace common {
namespace {

// How long Ctrl-C may go unnoticed while nothing arrives.
constexpr std::int64_t kPollMs = 50;

// "reading the prompt 128 of 640", overwritten in place, gone before the answer begins.
class PromptProgress {
 public:
  void show(std::uint64_t processed, std::uint64_t total) {
    if (!terminal_) return;
    std::fprintf(stderr, "\rreading the prompt %llu of %llu",
                 static_cast<unsigned long long>(processed),
                 static_cast<unsigned long long>(total));
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool shown_ = false;
};

}  // namespace

Answer stream_answer(tsr::Session& session, const tsr::GenerateOptions& options,
                     Interrupt& interrupt, const std::function<void(std::string_view)>& on_text) {
  Answer answer;
  PromptProgress progress;
  interrupt.take();  // one that came before is not meant for this answer
  session.generate(options);
  while (true) {
    const std::optional<tsr::Event> event = session.next(kPollMs);
    if (interrupt.take()) session.cancel();
    if (!event) continue;
    if (event->kind == TSR_EVENT_PROGRESS) {
      progress.show(event->processed, event->total);
      continue;
    }
    progress.clear();
    if (event->kind == TSR_EVENT_TEXT) {
      answer.text += event->text();
      on_text(event->text());
    } else if (event->kind == TSR_EVENT_FAILED) {
      throw tsr::Exception(event->status, std::string(event->text()));
    } else if (event->kind == TSR_EVENT_DONE) {
      answer.finish = event->finish;
    } else if (event->kind == TSR_EVENT_NONE) {
      return answer;
    }
  }
}

const char* finish_name(tsr_finish finish) {
  switch (finish) {
    case TSR_FINISH_END:
      return "end";
    case TSR_FINISH_STOP:
      return "stop";
    case TSR_FINISH_LENGTH:
      return "length";
    case TSR_FINISH_CANCELLED:
      return "cancelled";
    default:
      return "none";
  }
}

}  // namespace common
