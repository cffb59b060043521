// KV of many sessions at once over one library of chunks: the most pages that cannot be given up
// while they run, against a copy of all that it sees for each session (EPIC, CacheBlend).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <span>
#include <stdexcept>

#include "tests/bench/sharing/bench.hpp"

namespace sharing {
namespace {

constexpr std::uint32_t kPage = 16;  // tokens
constexpr std::uint32_t kLibrary = 200;
constexpr std::uint32_t kChunk = 256;
constexpr std::uint32_t kNew = 64;
constexpr std::uint32_t kQuestion = 32;  // of the session's own text, behind the chunks, at most

// Prompts of the data sets that MEPIC was measured with: mean tokens, share of them in chunks, and
// its peak KV over CacheBlend's there.
struct Shape {
  const char* name;
  double tokens, reuse, mepic;
};
constexpr Shape kShapes[] = {{"SQuAD", 2224, 0.849, 0.51},
                             {"NewsQA", 1518, 0.614, 0.79},
                             {"NarrativeQA", 1435, 0.939, 0.59},
                             {"emrQA", 1632, 0.982, 0.62}};
constexpr std::uint32_t kBarSessions = 16;
constexpr std::uint32_t kManySessions = 64;  // on emrQA
constexpr double kManyBar = 5;

struct Dial {
  const char* name;
  tsr_repair repair;
};
constexpr Dial kDials[] = {
    {"none", TSR_REPAIR_NONE}, {"head", TSR_REPAIR_HEAD}, {"default", TSR_REPAIR_DEFAULT}};

struct Prompt {
  std::vector<std::uint32_t> chunks;  // of the library, by popularity
  std::uint32_t own = 0;              // tokens of text

  std::uint64_t tokens() const { return chunks.size() * std::uint64_t{kChunk} + own + kNew; }
};

// Zipf 1.0, no chunk twice in a prompt. The numbers of chunks vary by one, so that the mean share
// is the shape's.
std::vector<Prompt> draw(const Shape& shape, std::uint32_t sessions, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> below;  // popularity of all chunks up to each
  double sum = 0;
  for (std::uint32_t i = 1; i <= kLibrary; ++i) below.push_back(sum += 1.0 / i);
  const auto one = [&] {
    const double at = sum * (static_cast<double>(random() >> 11) * 0x1p-53);
    const auto place = std::ranges::upper_bound(below, at) - below.begin();
    return std::min(static_cast<std::uint32_t>(place), kLibrary - 1);
  };
  std::vector<Prompt> prompts;
  double owed = 0.5;  // chunks
  for (std::uint32_t i = 0; i < sessions; ++i) {
    owed += shape.tokens * shape.reuse / kChunk;
    Prompt prompt;
    prompt.own = static_cast<std::uint32_t>(std::lround(shape.tokens * (1 - shape.reuse)));
    while (owed >= 1) {
      const std::uint32_t chunk = one();
      if (std::ranges::count(prompt.chunks, chunk)) continue;
      prompt.chunks.push_back(chunk);
      owed -= 1;
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// Pages of the first sessions of a workload; all but `held` with their answers complete.
struct Pages {
  double held = 0;      // that cannot be given up, at the peak
  double copies = 0;    // a copy of its own for each session
  double floor = 0;     // exact chunks once, own text and answers: no repair at all
  double distinct = 0;  // chunks
};
using BySessions = std::map<std::uint32_t, Pages>;

std::uint64_t pages_for(std::uint64_t tokens) {
  return (tokens + kPage - 1) / kPage;
}

void begin(tsr::Session& session, const Prompt& prompt, const std::vector<tsr::Chunk>& library,
           Texts& texts) {
  const std::uint32_t question = std::min(prompt.own, kQuestion);
  session.add_text(texts.text(prompt.own - question));
  for (const std::uint32_t chunk : prompt.chunks) session.add_chunk(library[chunk]);
  session.add_text(texts.text(question));
  if (session.info().tokens + kNew != prompt.tokens())
    throw std::runtime_error("a prompt does not have the tokens that it should have");
  session.generate(bench::greedy(kNew));
}

std::uint64_t held(const tsr::Context& context) {
  const tsr::Metrics metrics = context.metrics();
  return metrics.pages_used - metrics.pages_cached;
}

BySessions run(const Bench& bench, const Shape& shape, const Dial& dial, std::uint64_t seed) {
  tsr::ContextOptions options;
  options.threads = bench.threads;
  options.page_size = kPage;
  const tsr::Context context(bench.model, options);
  Texts texts(bench.model, seed);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  std::vector<tsr::Chunk> library;
  for (std::uint32_t i = 0; i < kLibrary; ++i)
    library.emplace_back(context, texts.text(kChunk), lazy);

  const std::vector<Prompt> prompts = draw(shape, bench.counts.sessions.back(), seed);
  tsr::SessionOptions session_options;
  session_options.repair = dial.repair;
  session_options.event_capacity = 1;  // answers wait for the reader, who counts pages
  std::vector<tsr::Session> sessions;  // alive until all are done
  std::set<std::uint32_t> distinct;
  BySessions result;
  Pages pages;
  std::uint64_t peak = 0;
  for (const std::uint32_t count : bench.counts.sessions) {
    const std::size_t first = sessions.size();
    for (std::size_t i = first; i < count; ++i)  // else the primer is held by encodings meanwhile
      for (const std::uint32_t chunk : prompts[i].chunks) library[chunk].wait();
    while (sessions.size() < count) {
      const Prompt& prompt = prompts[sessions.size()];
      sessions.emplace_back(context, session_options);
      begin(sessions.back(), prompt, library, texts);
      distinct.insert(prompt.chunks.begin(), prompt.chunks.end());
      pages.copies += static_cast<double>(pages_for(prompt.tokens()));
      pages.floor += static_cast<double>(pages_for(prompt.own + kNew));
    }
    bench::read_together(
        context, std::span(sessions).subspan(first), kNew,
        [&](std::size_t, const tsr::Event&) { peak = std::max(peak, held(context)); });
    Pages at = pages;
    at.held = static_cast<double>(peak);
    at.distinct = static_cast<double>(distinct.size());
    at.floor += at.distinct * (kChunk / kPage);
    result[count] = at;
  }
  return result;
}

// Means over workloads.
BySessions measure(const Bench& bench, const Shape& shape, const Dial& dial) {
  BySessions sum;
  const auto share = static_cast<double>(bench.counts.workloads);
  for (std::uint32_t seed = 1; seed <= bench.counts.workloads; ++seed) {
    for (const auto& [sessions, pages] : run(bench, shape, dial, seed)) {
      sum[sessions].held += pages.held / share;
      sum[sessions].copies += pages.copies / share;
      sum[sessions].floor += pages.floor / share;
      sum[sessions].distinct += pages.distinct / share;
    }
  }
  return sum;
}

void print(const Shape& shape, std::map<std::string, BySessions>& by_dial) {
  std::printf("\n%s: %.0f tokens, %.1f %% of them chunks; pages over those of private copies\n",
              shape.name, shape.tokens, 100 * shape.reuse);
  std::printf("%9s %9s %9s %9s", "sessions", "chunks", "copies", "floor");
  for (const Dial& dial : kDials) std::printf(" %9s", dial.name);
  std::printf("\n");
  for (const auto& [sessions, pages] : by_dial["default"]) {
    std::printf("%9u %9.1f %9.0f %9.3f", sessions, pages.distinct, pages.copies,
                pages.floor / pages.copies);
    for (const Dial& dial : kDials)
      std::printf(" %9.3f", by_dial[dial.name][sessions].held / pages.copies);
    std::printf("\n");
  }
  const auto at = by_dial["default"].find(kBarSessions);
  if (at != by_dial["default"].end()) {
    const Pages& pages = at->second;
    const double ratio = pages.held / pages.copies, floor = pages.floor / pages.copies;
    std::printf("bar: %u sessions at most %.2f: %s%s\n", kBarSessions, shape.mepic,
                bench::met(ratio <= shape.mepic),
                floor > shape.mepic ? " (below what sharing of exact chunks can reach here)" : "");
  }
  const auto many = by_dial["default"].find(kManySessions);
  if (std::string_view(shape.name) == "emrQA" && many != by_dial["default"].end()) {
    const Pages& pages = many->second;
    std::printf("bar: %u sessions at least %.0f times less: %.2f times, %s (floor: %.2f times)\n",
                kManySessions, kManyBar, pages.copies / pages.held,
                bench::met(pages.copies / pages.held >= kManyBar), pages.copies / pages.floor);
  }
}

}  // namespace

void measure_memory(Bench& bench) {
  std::printf(
      "\nKV of sessions over a library of %u chunks of %u tokens, Zipf 1.0, pages of %u, "
      "%u new tokens, mean of %u workloads\n",
      kLibrary, kChunk, kPage, kNew, bench.counts.workloads);
  for (const Shape& shape : kShapes) {
    std::map<std::string, BySessions> by_dial;
    for (const Dial& dial : kDials) {
      std::fprintf(stderr, "memory: %s, %s\n", shape.name, dial.name);
      by_dial[dial.name] = measure(bench, shape, dial);
      for (const auto& [sessions, pages] : by_dial[dial.name]) {
        bench.log({{"kind", "memory"},
                   {"shape", shape.name},
                   {"dial", dial.name},
                   {"sessions", sessions},
                   {"pages", pages.held},
                   {"pages_of_copies", pages.copies},
                   {"pages_at_least", pages.floor},
                   {"distinct_chunks", pages.distinct},
                   {"ratio", pages.held / pages.copies},
                   {"ratio_at_least", pages.floor / pages.copies},
                   {"mepic", shape.mepic}});
      }
    }
    print(shape, by_dial);
  }
}

}  // namespace sharing
