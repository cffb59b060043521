// How long after tsr_session_cancel the CANCELLED event arrives, at random moments of a prompt and
// of an answer, alone and beside other sessions.
#include <atomic>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "tests/bench/serving/bench.hpp"

namespace serving {
namespace {

constexpr double kBarMs = 50;
constexpr std::uint32_t kDecoding = 15;       // others
constexpr std::uint32_t kOthersAnswer = 256;  // tokens, then each begins anew
constexpr std::uint32_t kOurAnswer = 512;
constexpr std::uint32_t kEvents = 4096;  // nobody reads while a moment is waited for
constexpr double kLongestDecode = 0.3;   // seconds before a cancel
constexpr std::uint32_t kTooLate = 20;   // times as many tries as wanted, then give up

// Sessions that decode without end and one that reads long prompts without end, each with a thread
// of its own, as the clients of a server have.
class Others {
 public:
  Others(Bench& bench, const tsr::Context& context) : bench_(bench), context_(context) {
    for (std::uint32_t i = 0; i < kDecoding; ++i) {
      prompts_.push_back(bench.random_tokens(bench.counts.prompt_tokens));
    }
    for (std::uint32_t i = 0; i < kDecoding; ++i) {  // prompts_ stays where it is from here on
      decoding_.emplace_back([this, i] { work([&] { answer(prompts_[i], kOthersAnswer); }); });
    }
    decoding_.emplace_back([this] {
      std::mt19937_64 random(2);  // its own: the bench's is for one thread
      work([&] { answer(bench_.random_tokens(bench_.counts.long_prompt, random), 1); });
    });
  }
  ~Others() { stop(); }

  // Waits until about all of them answer.
  void begin() const {
    while (begun_ < kDecoding) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  // Ends the threads; throws what one of them failed with.
  void finish() {
    stop();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  template <typename Job>
  void work(const Job& job) {
    try {
      while (!stop_) job();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      begun_ = kDecoding;
    }
  }

  void answer(const Tokens& prompt, std::uint32_t tokens) {
    tsr::Session session(context_);
    session.add_tokens(prompt);
    session.generate(bench_.answer(tokens));
    bool spoke = false;
    while (!stop_) {
      const auto event = session.next(100);
      if (!event) continue;
      if (event->kind == TSR_EVENT_FAILED) throw std::runtime_error(std::string(event->text()));
      if (event->kind == TSR_EVENT_NONE) return;
      if (!spoke && event->tokens > 0) ++begun_;
      spoke = spoke || event->tokens > 0;
    }
  }

  void stop() {
    stop_ = true;
    for (std::thread& thread : decoding_)
      if (thread.joinable()) thread.join();
  }

  const Bench& bench_;
  const tsr::Context& context_;
  std::vector<Tokens> prompts_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint32_t> begun_ = 0;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> decoding_;  // last: its threads use the others
};

class Canceller {
 public:
  Canceller(Bench& bench, const tsr::Context& context) : bench_(bench), context_(context) {}

  // Milliseconds of each try. Cancels that came too late are not among them.
  std::vector<double> prompt() {
    const double whole = prompt_seconds();
    return tries([&] {
      tsr::Session session = begin(bench_.counts.long_prompt, 1);
      wait(whole);
      const Outcome outcome = cancel(session);
      return outcome.cancelled && outcome.tokens == 0 ? outcome.ms : kLate;
    });
  }

  std::vector<double> decode() {
    return tries([&] {
      tsr::Session session = begin(bench_.counts.prompt_tokens, kOurAnswer);
      for (auto event = session.next(); event->tokens == 0; event = session.next())
        if (event->kind == TSR_EVENT_NONE) throw std::runtime_error("an answer without a token");
      wait(kLongestDecode);
      const Outcome outcome = cancel(session);
      return outcome.cancelled ? outcome.ms : kLate;
    });
  }

 private:
  static constexpr double kLate = -1;
  struct Outcome {
    bool cancelled;
    std::uint64_t tokens;
    double ms;
  };

  tsr::Session begin(std::uint32_t prompt, std::uint32_t answer) {
    tsr::SessionOptions options;
    options.event_capacity = kEvents;
    tsr::Session session(context_, options);
    session.add_tokens(bench_.random_tokens(prompt));
    session.generate(bench_.answer(answer));
    return session;
  }

  void wait(double longest) {
    const double seconds = std::uniform_real_distribution<>(0, longest)(bench_.random);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

  double prompt_seconds() {
    const bench::Clock::time_point start = bench::Clock::now();
    begin(bench_.counts.long_prompt, 1).read();
    return bench::seconds_since(start);
  }

  // From the call to the event; then the session must be idle.
  static Outcome cancel(tsr::Session& session) {
    const bench::Clock::time_point start = bench::Clock::now();
    session.cancel();
    Outcome outcome{};
    for (bool done = false; !done;) {
      const auto event = session.next();
      if (event->kind == TSR_EVENT_FAILED) throw std::runtime_error(std::string(event->text()));
      if (event->kind == TSR_EVENT_NONE) throw std::runtime_error("an answer without a last event");
      done = event->kind == TSR_EVENT_DONE;
      outcome = {event->finish == TSR_FINISH_CANCELLED, event->tokens,
                 1e3 * bench::seconds_since(start)};
    }
    if (session.info().generating) throw std::runtime_error("a cancelled session is not idle");
    return outcome;
  }

  template <typename Try>
  std::vector<double> tries(const Try& one) {
    std::vector<double> ms;
    const std::uint32_t wanted = bench_.counts.tries;
    for (std::uint32_t i = 0; ms.size() < wanted; ++i) {
      if (i == wanted * kTooLate) throw std::runtime_error("cancels came too late again and again");
      if (const double value = one(); value != kLate) ms.push_back(value);
    }
    return ms;
  }

  Bench& bench_;
  const tsr::Context& context_;
};

bool report(Bench& bench, const char* during, bool alone, const std::vector<double>& ms) {
  const double middle = bench::median(ms), p99 = bench::quantile(ms, 0.99),
               most = bench::quantile(ms, 1);
  std::printf("%-10s %-16s %6zu %10.1f %10.1f %10.1f\n", during, alone ? "alone" : "beside others",
              ms.size(), middle, p99, most);
  std::fflush(stdout);
  bench.log({{"kind", "cancel"},
             {"during", during},
             {"decoding_sessions", alone ? 0 : kDecoding},
             {"reading_sessions", alone ? 0 : 1},
             {"tries", ms.size()},
             {"median_ms", middle},
             {"p99_ms", p99},
             {"max_ms", most}});
  return most <= kBarMs;
}

}  // namespace

void measure_cancel(Bench& bench) {
  std::printf(
      "\ncancel, milliseconds to the CANCELLED event; prompts of %u tokens; others: %u "
      "sessions that decode\nand one that reads such prompts\n",
      bench.counts.long_prompt, kDecoding);
  std::printf("%-10s %-16s %6s %10s %10s %10s\n", "during", "", "tries", "median", "p99", "max");
  const tsr::Context context = bench.context();
  Canceller canceller(bench, context);
  bool within = report(bench, "prompt", true, canceller.prompt());
  within &= report(bench, "answer", true, canceller.decode());
  Others others(bench, context);
  others.begin();
  within &= report(bench, "prompt", false, canceller.prompt());
  within &= report(bench, "answer", false, canceller.decode());
  others.finish();
  std::printf("bar: at most %.0f ms, each: %s\n", kBarMs, bench::met(within));
}

}  // namespace serving
