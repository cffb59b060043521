// Time to the first token over chunks that are there already, against an ordinary prompt.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <thread>

#include "tests/bench/sharing/bench.hpp"

namespace sharing {
namespace {

constexpr std::string_view kAnchor =
    "<|im_start|>system\nYou are a helpful assistant. Answer the question using only the documents "
    "below.<|im_end|>\n<|im_start|>user\n";
constexpr std::uint32_t kAnswer = 16;  // tokens of a conversation's first answer

struct Way {
  const char* name;
  tsr_repair repair;
  bool again;  // the heads were computed for the same beginning before
  double bar;  // times faster than full prefill; 0: none
};
constexpr Way kWays[] = {{"full", TSR_REPAIR_FULL, false, 0},
                         {"none", TSR_REPAIR_NONE, false, 15},
                         {"head, cold heads", TSR_REPAIR_HEAD, false, 8},
                         {"head, cached heads", TSR_REPAIR_HEAD, true, 12},
                         {"default, cold heads", TSR_REPAIR_DEFAULT, false, 4.5},
                         {"default, cached heads", TSR_REPAIR_DEFAULT, true, 0}};
constexpr const char* kSecondTurn = "default, second turn";

// The same with the chunks on disk only, in a context that was just made.
struct Restart {
  const char* name;
  const char* warm;  // with the chunks in memory
  tsr_repair repair;
};
constexpr Restart kRestarts[] = {{"none, restart", "none", TSR_REPAIR_NONE},
                                 {"default, restart", "default, cold heads", TSR_REPAIR_DEFAULT}};
constexpr double kRestartBar = 1.5;      // times the time with chunks in memory
constexpr std::uint32_t kBaseTexts = 2;  // anchor and primer
constexpr int kStoreSeconds = 60;

// A folder of its own, removed in the end.
class Folder {
 public:
  Folder() {
    std::string path = std::filesystem::temp_directory_path() / "sharing_bench.XXXXXX";
    if (!mkdtemp(path.data())) throw std::runtime_error(path + " cannot be made");
    path_ = path;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A context and its chunks, the same texts each time.
class Prompts {
 public:
  // With a folder the context has a disk tier there, and chunks are left for the first who asks.
  explicit Prompts(const Bench& bench, const std::string& folder = "")
      : bench_(bench), texts_(bench.model, 1), context_(bench.model, options_of(bench, folder)) {
    tsr::ChunkOptions options;
    if (!folder.empty()) options.flags = TSR_CHUNK_LAZY;
    for (std::uint32_t i = 0; i < bench.counts.chunks; ++i) {
      chunks_.emplace_back(context_, texts_.text(bench.counts.chunk_tokens), options);
      if (chunks_.back().info().tokens != bench.counts.chunk_tokens)
        throw std::runtime_error("a chunk does not have the tokens that it should have");
    }
    if (folder.empty()) wait();
  }

  void wait() const {
    for (const tsr::Chunk& chunk : chunks_) chunk.wait();
  }
  tsr::Metrics metrics() const { return context_.metrics(); }
  bool flush() const { return context_.flush(1000 * kStoreSeconds); }

  // A session of the chunks whose beginning no other has, or had. A text of its own in front makes
  // it so.
  tsr::Session session(tsr_repair repair, const std::string& beginning) const {
    tsr::SessionOptions options;
    options.repair = repair;
    tsr::Session session(context_, options);
    session.add_anchor();
    session.add_text(beginning);
    for (const tsr::Chunk& chunk : chunks_) session.add_chunk(chunk);
    return session;
  }
  std::string beginning() { return std::to_string(next_++) + ":"; }

  // Milliseconds.
  double ask(tsr::Session& session, std::uint32_t new_tokens = 1) {
    session.add_text(texts_.text(bench_.counts.question_tokens));
    session.generate(bench::greedy(new_tokens));
    session.read();
    return static_cast<double>(session.report().first_token_us) / 1000;
  }

 private:
  static tsr::ContextOptions options_of(const Bench& bench, const std::string& folder) {
    tsr::ContextOptions options;
    options.threads = bench.threads;
    options.set_anchor(kAnchor);
    if (!folder.empty()) options.set_cache_folder(folder);
    return options;
  }

  const Bench& bench_;
  Texts texts_;
  tsr::Context context_;
  std::vector<tsr::Chunk> chunks_;
  std::uint32_t next_ = 100'000;  // of equal length
};

struct Measured {
  std::vector<double> times;   // milliseconds, by round
  std::vector<double> ratios;  // full prefill of the same round over it
  tsr::Report report;          // of the last round
};
using ByWay = std::map<std::string, Measured>;

// Encodes the chunks and waits until all of them are on disk.
void store(const Bench& bench, const std::string& folder) {
  const Prompts prompts(bench, folder);
  prompts.wait();
  const std::uint64_t texts = bench.counts.chunks + kBaseTexts;
  if (!prompts.flush() || prompts.metrics().chunks_stored < texts)
    throw std::runtime_error("chunks were not stored in " + folder);
}

void restart(const Bench& bench, const std::string& folder, ByWay& measured) {
  for (const Restart& way : kRestarts) {
    Prompts prompts(bench, folder);
    tsr::Session session = prompts.session(way.repair, prompts.beginning());
    Measured& m = measured[way.name];
    m.times.push_back(prompts.ask(session));
    m.report = session.report();
    m.ratios.push_back(measured["full"].times.back() / m.times.back());
    if (prompts.metrics().chunks_loaded < bench.counts.chunks)
      throw std::runtime_error("chunks were computed although they are on disk");
  }
}

void one_round(Prompts& prompts, ByWay& measured) {
  std::map<tsr_repair, std::string> beginnings;
  double full = 0;
  for (const Way& way : kWays) {
    if (!way.again) beginnings[way.repair] = prompts.beginning();
    tsr::Session session = prompts.session(way.repair, beginnings[way.repair]);
    Measured& m = measured[way.name];
    m.times.push_back(prompts.ask(session));
    m.report = session.report();
    if (way.repair == TSR_REPAIR_FULL) full = m.times.back();
    m.ratios.push_back(full / m.times.back());
  }
  tsr::Session session = prompts.session(TSR_REPAIR_DEFAULT, prompts.beginning());
  prompts.ask(session, kAnswer);
  Measured& turn = measured[kSecondTurn];
  turn.times.push_back(prompts.ask(session));
  turn.report = session.report();
  turn.ratios.push_back(full / turn.times.back());
}

void show(Bench& bench, const std::string& name, const Measured& m, double bar) {
  const double time = bench::median(m.times), ratio = bench::median(m.ratios);
  const auto [least, most] = std::ranges::minmax(m.ratios);
  std::printf("%-23s %9.1f %8.2f  %6.2f-%-8.2f %9llu %9llu", name.c_str(), time, ratio, least, most,
              static_cast<unsigned long long>(m.report.tokens_repaired),
              static_cast<unsigned long long>(m.report.tokens_computed));
  if (bar > 0) std::printf("  at least %4.1f: %s", bar, bench::met(ratio >= bar));
  std::printf("\n");
  bench.log({{"kind", "first_token"},
             {"way", name},
             {"ms", time},
             {"rounds_ms", m.times},
             {"ratio", ratio},
             {"ratio_least", least},
             {"ratio_most", most},
             {"bar", bar > 0 ? nlohmann::json(bar) : nlohmann::json()},
             {"repaired", m.report.tokens_repaired},
             {"computed", m.report.tokens_computed}});
}

}  // namespace

void measure_first_token(Bench& bench) {
  Prompts prompts(bench);
  const Folder folder;
  store(bench, folder.path());
  ByWay measured;
  for (std::uint32_t round = 0; round < bench.counts.rounds; ++round) {
    std::fprintf(stderr, "first token: round %u of %u\n", round + 1, bench.counts.rounds);
    one_round(prompts, measured);
    restart(bench, folder.path(), measured);
  }
  std::printf(
      "\ntime to the first token, %u x %u warm chunk tokens and a question of %u, median "
      "of %u\n",
      bench.counts.chunks, bench.counts.chunk_tokens, bench.counts.question_tokens,
      bench.counts.rounds);
  std::printf("%-23s %9s %8s  %-15s %9s %9s\n", "", "ms", "ratio", "least-most", "repaired",
              "computed");
  for (const Way& way : kWays) show(bench, way.name, measured[way.name], way.bar);
  for (const Restart& way : kRestarts) show(bench, way.name, measured[way.name], 0);
  const Measured& turn = measured[kSecondTurn];
  show(bench, kSecondTurn, turn, 0);
  const std::uint64_t expected = bench.counts.question_tokens + 1;  // and the answer's last token
  const bool none = turn.report.tokens_repaired == 0 && turn.report.tokens_computed == expected;
  std::printf("bar: the second turn computes no token of a chunk: %s\n", bench::met(none));
  for (const Restart& way : kRestarts) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < bench.counts.rounds; ++i)
      ratios.push_back(measured[way.name].times[i] / measured[way.warm].times[i]);
    std::printf("%s: %.2f times the time with chunks in memory, at most %.1f: %s\n", way.name,
                bench::median(ratios), kRestartBar,
                bench::met(bench::median(ratios) <= kRestartBar));
    bench.log({{"kind", "restart"},
               {"way", way.name},
               {"ratio", bench::median(ratios)},
               {"rounds", ratios},
               {"bar", kRestartBar}});
  }
}

}  // namespace sharing
