// eviction_policies: what a budget of pages saves, with entries given up by value as the engine
// does (runtime/kv/value.hpp), and with the longest unused first. A simulation with the numbers of
// SmolLM2-135M; the same table on every machine.
//
// Library: 1000 entries of 64 to 1024 tokens, half of them chunks behind 400 tokens of anchor and
// primer, half runs up to 8000 tokens deep in a prompt. 100,000 requests, Zipf 1.0, popularity
// independent of size and depth; `scan`: every other request is for a chunk that comes only once.
// `drift`: each 10,000 requests a tenth of the popular entries change places with others.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "runtime/kv/value.hpp"
#include "tests/fuzz/random.hpp"

namespace {

using tessera::kv::Valued;
using tessera::kv::ValueQueue;
using tessera::kv::ValueRule;
using tessera::kv::Work;

constexpr uint64_t kEntries = 1000, kRequests = 100'000, kPage = 16;
constexpr uint64_t kTokenBytes = 30 * 3 * 64 * 2 * 2;
constexpr Work kWork{30. * 576 * (2 * 576 + 2 * 192 + 3 * 1536), 30. * 2 * 576};

struct Entry : Valued {
  double work = 0;
};

Entry random_entry(tessera::test::Random& random, bool chunk) {
  Entry entry;
  const uint64_t tokens = 64 + random.below(961);
  const uint64_t depth = chunk ? 400 : random.below(8000);
  entry.work = kWork.of(tokens, depth);
  entry.bytes = (tokens + kPage - 1) / kPage * kPage * kTokenBytes;
  return entry;
}

// Entries that are not in use, in a budget. With a cost of 0 for all the rule is LRU.
class Cache {
 public:
  Cache(uint64_t budget, bool by_value) : free_(budget), by_value_(by_value) {
    queue_.make_room(kEntries + 1);
  }

  bool take(Entry& entry) {
    const bool hit = entry.queued();
    if (hit) {
      queue_.remove(entry);
    } else {
      while (free_ < entry.bytes) give_up();
      free_ -= entry.bytes;
      entry.uses = 0;
    }
    ++entry.uses;
    entry.cost = by_value_ ? entry.work : 0;
    rule_.used(entry);
    queue_.make_room(queue_.size() + 1);
    queue_.push(entry);
    return hit;
  }

 private:
  void give_up() {
    Valued* first = queue_.first();
    rule_.given_up(*first);
    queue_.remove(*first);
    free_ += first->bytes;
  }

  ValueRule rule_;
  ValueQueue queue_;
  uint64_t free_;
  bool by_value_;
};

struct Saved {
  double requests = 0;  // share of the library's requests that hit
  double work = 0;      // share of their work that was saved
};

Saved simulate(double budget, bool by_value, bool scan, bool drift) {
  tessera::test::Random random(1);
  std::vector<Entry> library;
  double bytes = 0;
  for (uint64_t i = 0; i < kEntries; ++i) {
    library.push_back(random_entry(random, i % 2 == 0));
    bytes += static_cast<double>(library.back().bytes);
  }
  std::vector<double> upto(kEntries);  // Zipf 1.0, summed up
  for (uint64_t i = 0; i < kEntries; ++i) upto[i] = (i ? upto[i - 1] : 0) + 1. / double(i + 1);
  std::vector<uint64_t> by_rank(kEntries);
  for (uint64_t i = 0; i < kEntries; ++i) by_rank[i] = i;

  Cache cache(static_cast<uint64_t>(budget * bytes), by_value);
  std::vector<std::unique_ptr<Entry>> once;
  double hits = 0, saved = 0, work = 0;
  for (uint64_t i = 0; i < kRequests; ++i) {
    if (scan) {
      once.push_back(std::make_unique<Entry>(random_entry(random, true)));
      cache.take(*once.back());
    }
    if (drift && i % 10'000 == 9'999) {
      for (uint64_t r = 0; r < kEntries / 10; ++r) {
        std::swap(by_rank[random.below(100)], by_rank[random.below(kEntries)]);
      }
    }
    const double at = static_cast<double>(random.next() >> 11) * 0x1p-53 * upto.back();
    const auto rank = std::ranges::upper_bound(upto, at) - upto.begin();
    Entry& entry = library[by_rank[static_cast<size_t>(rank)]];
    const bool hit = cache.take(entry);
    hits += hit;
    work += entry.work;
    saved += hit ? entry.work : 0;
  }
  return {hits / kRequests, saved / work};
}

}  // namespace

int main() {
  std::puts("budget: share of the library's bytes; hits: of requests; saved: of the work\n");
  std::puts("| workload | budget | LRU hits | value hits | LRU saved | value saved |");
  std::puts("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const auto& [name, scan, drift] :
       {std::tuple("library", false, false), {"scan", true, false}, {"drift", false, true}}) {
    for (const double budget : {0.05, 0.1, 0.2, 0.4}) {
      const Saved lru = simulate(budget, false, scan, drift);
      const Saved value = simulate(budget, true, scan, drift);
      std::printf("| %s | %.0f %% | %.3f | %.3f | %.3f | %.3f |\n", name, budget * 100,
                  lru.requests, value.requests, lru.work, value.work);
    }
  }
}
