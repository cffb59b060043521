// Sessions that decode together behind the same chunks, which they share, against sessions each of
// which has all of them in pages of its own.
#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "tests/bench/serving/bench.hpp"
#include "tests/bench/serving/decode_together.hpp"

namespace serving {
namespace {

constexpr double kBar = 1.3;

struct Method {
  const char* name;
  tsr_repair repair;
  bool own_prefix;  // the first token differs from session to session, so that nothing is found
};
constexpr Method kMethods[] = {{"private", TSR_REPAIR_FULL, true},
                               {"none", TSR_REPAIR_NONE, false},
                               {"default", TSR_REPAIR_DEFAULT, false}};

// The next words of a text from byte `at` on, of about so many tokens.
std::string passage(const Bench& bench, const std::string& text, std::size_t& at,
                    std::uint32_t tokens) {
  const std::size_t first = at;
  for (std::size_t count = 0; count < tokens && at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" \n", at + 1), text.size());
    count += bench.model.tokenize(std::string_view(text).substr(at, end - at)).size();
    at = end;
  }
  return text.substr(first, at - first);
}

std::vector<std::string> passages(const Bench& bench) {
  std::string all;
  for (const std::string& text : bench.texts()) all += text;
  std::vector<std::string> passages;
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < bench.counts.shared_chunks; ++i) {
    passages.push_back(passage(bench, all, at, bench.counts.chunk_tokens));
    if (at == all.size()) throw std::runtime_error("the texts are too short for the shared chunks");
  }
  return passages;
}

// Sessions whose prompts are computed.
class Group {
 public:
  Group(Bench& bench, const Method& method, const std::vector<std::string>& texts)
      : context_(bench.model, options(bench, method)) {
    for (const std::string& text : texts) chunks_.emplace_back(context_, text);
    tsr::SessionOptions repaired;
    repaired.repair = method.repair;
    for (std::uint32_t i = 0; i < bench.counts.shared_sessions; ++i) {
      if (i % 8 == 0)
        std::fprintf(stderr, "shared: %s, prompt %u of %u\n", method.name, i + 1,
                     bench.counts.shared_sessions);
      sessions_.emplace_back(context_, repaired);
      tsr::Session& session = sessions_.back();
      session.add_tokens({static_cast<std::int32_t>(100 + (method.own_prefix ? i : 0))});
      for (const tsr::Chunk& chunk : chunks_) session.add_chunk(chunk);
      session.add_tokens(bench.prompt(i % bench.counts.sessions.back()));
      session.evaluate();
    }
    const std::uint64_t computed = context_.metrics().computed_tokens;
    if (method.own_prefix && computed < tokens() * sessions_.size())
      throw std::runtime_error("private copies were not computed each by itself");
  }

  double decode(const tsr::GenerateOptions& options) {
    return decode_together(context_, sessions_, options);
  }
  std::uint64_t tokens() const { return sessions_.front().info().tokens; }
  std::uint64_t kv_bytes() const {
    const tsr::Metrics metrics = context_.metrics();
    return metrics.pages_peak * metrics.page_bytes;
  }

 private:
  // Room for everything of every session, in pages that are not full.
  static tsr::ContextOptions options(const Bench& bench, const Method& method) {
    const Counts& counts = bench.counts;
    const tsr::Metrics metrics = bench.context().metrics();
    const std::uint64_t page = metrics.page_size;
    const std::uint64_t chunks = counts.shared_chunks * (counts.chunk_tokens * 5 / 4 / page + 2);
    const std::uint64_t own = (counts.prompt_tokens + counts.shared_new_tokens * counts.rounds +
                               counts.chunk_tokens * counts.shared_chunks / 10) /
                                  page +
                              2 * counts.shared_chunks + 8;
    const std::uint64_t copies = method.own_prefix ? counts.shared_sessions : 1;
    tsr::ContextOptions options;
    options.threads = bench.threads;
    options.kv_budget =
        (chunks * copies + own * counts.shared_sessions + 4096 / page) * metrics.page_bytes;
    return options;
  }

  tsr::Context context_;
  std::vector<tsr::Chunk> chunks_;
  std::vector<tsr::Session> sessions_;
};

}  // namespace

void measure_shared(Bench& bench) {
  const std::vector<std::string> texts = passages(bench);
  std::vector<Group> groups;
  groups.reserve(std::size(kMethods));
  for (const Method& method : kMethods) groups.emplace_back(bench, method, texts);
  std::vector<std::vector<double>> speeds(groups.size()), ratios(groups.size());
  const std::uint64_t tokens = groups.front().tokens();
  for (std::uint32_t round = 0; round < bench.counts.rounds; ++round) {
    std::fprintf(stderr, "shared: round %u of %u\n", round + 1, bench.counts.rounds);
    for (std::size_t m = 0; m < groups.size(); ++m) {
      speeds[m].push_back(groups[m].decode(bench.answer(bench.counts.shared_new_tokens)));
      if (speeds[m].back() == 0)
        throw std::runtime_error(
            "the sessions never decoded all at once: the answers are too short");
      ratios[m].push_back(speeds[m].back() / speeds[0].back());  // within the round
    }
  }
  std::printf(
      "\n%u sessions that decode together behind %u chunks, prompts of %llu tokens, "
      "%u new ones, median of %u\n",
      bench.counts.shared_sessions, bench.counts.shared_chunks,
      static_cast<unsigned long long>(tokens), bench.counts.shared_new_tokens, bench.counts.rounds);
  std::printf("%9s %12s %12s %8s  %s\n", "chunks", "tokens/s", "KV, MB", "ratio", "least-most");
  for (std::size_t m = 0; m < groups.size(); ++m) {
    const double speed = bench::median(speeds[m]), ratio = bench::median(ratios[m]);
    const auto [least, most] = std::ranges::minmax(ratios[m]);
    const std::uint64_t bytes = groups[m].kv_bytes();
    std::printf("%9s %12.1f %12.1f %8.2f  %.2f-%.2f\n", kMethods[m].name, speed,
                static_cast<double>(bytes) / 1e6, ratio, least, most);
    bench.log({{"kind", "shared"},
               {"method", kMethods[m].name},
               {"sessions", bench.counts.shared_sessions},
               {"chunks", bench.counts.shared_chunks},
               {"prompt_tokens", tokens},
               {"new_tokens", bench.counts.shared_new_tokens},
               {"kv_bytes", bytes},
               {"tokens_per_second", speed},
               {"ratio", ratio},
               {"ratio_least", least},
               {"ratio_most", most},
               {"rounds", speeds[m]}});
  }
  for (std::size_t m = 1; m < groups.size(); ++m)
    std::printf("bar: %s at least %.1f times private copies: %s\n", kMethods[m].name, kBar,
                bench::met(bench::median(ratios[m]) >= kBar));
}

}  // namespace serving
