#include "runtime/text/bpe.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace tessera::text {
namespace {

constexpr uint64_t kEmpty = UINT64_MAX;  // ids are below 2^31, so no pair looks like this
constexpr size_t kShortWord = 48;        // bytes up to which scanning beats a heap (measured)

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(size_t merges) {
  const size_t slots = std::bit_ceil(std::max<size_t>(16, merges + merges / 2 + 1));
  keys_.assign(slots, kEmpty);
  ranks_.assign(slots, kNone);
  shift_ = 64 - std::countr_zero(slots);
}

size_t MergeTable::slot(uint64_t key) const {
  // Fibonacci hashing; folding first lets the left token reach the high bits of the product.
  size_t at = ((key ^ key >> 29) * 0x9E3779B97F4A7C15u) >> shift_;
  while (keys_[at] != key && keys_[at] != kEmpty) at = (at + 1) & (keys_.size() - 1);
  return at;
}

void MergeTable::set(int32_t left, int32_t right, uint32_t rank) {
  const size_t at = slot(pair_key(left, right));
  keys_[at] = pair_key(left, right);
  ranks_[at] = rank;
}

uint32_t MergeTable::rank(int32_t left, int32_t right) const {
  return ranks_[slot(pair_key(left, right))];
}

void Bpe::encode(std::string_view word, Scratch* scratch, std::vector<int32_t>* out) const {
  std::vector<int32_t>& ids = scratch->ids;
  ids.clear();
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0) ids.push_back(id);
  }
  if (ids.size() > kShortWord) {
    merge_long(scratch);
  } else if (ids.size() > 1) {
    merge_short(scratch);
  }
  out->insert(out->end(), ids.begin(), ids.end());
}

// Keeps the rank of every neighbouring pair in an array and looks for the least one each time.
void Bpe::merge_short(Scratch* scratch) const {
  int32_t* ids = scratch->ids.data();
  size_t size = scratch->ids.size();
  uint32_t ranks[kShortWord];  // ranks[i] of the pair (i, i + 1); the last is always kNone
  for (size_t i = 0; i + 1 < size; ++i) ranks[i] = merges_.rank(ids[i], ids[i + 1]);
  ranks[size - 1] = MergeTable::kNone;
  for (;;) {
    const size_t at = std::min_element(ranks, ranks + size) - ranks;  // the first of equals
    if (ranks[at] == MergeTable::kNone) break;
    ids[at] = results_[ranks[at]];
    std::copy(ids + at + 2, ids + size, ids + at + 1);
    std::copy(ranks + at + 1, ranks + size, ranks + at);
    --size;
    ranks[at] = at + 1 < size ? merges_.rank(ids[at], ids[at + 1]) : MergeTable::kNone;
    if (at > 0) ranks[at - 1] = merges_.rank(ids[at - 1], ids[at]);
  }
  scratch->ids.resize(size);
}

// A linked list of symbols and a heap of possible merges. An entry whose pair has changed since is
// recognised by its rank and dropped; each merge adds two entries at most.
void Bpe::merge_long(Scratch* scratch) const {
  std::vector<int32_t>& ids = scratch->ids;
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto size = static_cast<int32_t>(ids.size());
  symbols.resize(ids.size());
  heap.clear();
  for (int32_t i = 0; i < size; ++i) symbols[i] = {ids[i], i - 1, i + 1 < size ? i + 1 : -1};

  const auto rank_at = [&](int32_t at) {
    const int32_t right = symbols[at].right;
    return right < 0 ? MergeTable::kNone : merges_.rank(symbols[at].id, symbols[right].id);
  };
  const auto entry_at = [&](int32_t at) {
    return static_cast<uint64_t>(rank_at(at)) << 32 | static_cast<uint32_t>(at);
  };
  const auto mergeable = [](uint64_t entry) { return entry >> 32 != MergeTable::kNone; };
  const auto push = [&](int32_t at) {
    if (const uint64_t entry = entry_at(at); mergeable(entry)) {
      heap.push_back(entry);
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };

  for (int32_t i = 0; i < size; ++i) {
    if (const uint64_t entry = entry_at(i); mergeable(entry)) heap.push_back(entry);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto at = static_cast<int32_t>(heap.back());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    auto& symbol = symbols[at];
    if (symbol.id < 0 || rank_at(at) != rank) continue;
    auto& gone = symbols[symbol.right];
    symbol.id = results_[rank];
    symbol.right = gone.right;
    if (gone.right >= 0) symbols[gone.right].left = at;
    gone.id = -1;
    push(at);
    if (symbol.left >= 0) push(symbol.left);
  }

  ids.clear();
  for (int32_t at = 0; at >= 0; at = symbols[at].right) ids.push_back(symbols[at].id);
}

}  // namespace tessera::text
