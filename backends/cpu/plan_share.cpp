// Which pieces of the blocks of a step lie in the same pages, so that attention reads them once.
//
// Blocks of many rows are left out: they read a page for all of those already.
#include <algorithm>

#include "backends/cpu/kernels.hpp"
#include "backends/cpu/plan.hpp"

namespace tessera::cpu {

void Plan::share_pieces() {
  shared_pieces_.clear();
  readers_.clear();
  shares_.clear();
  // Keys that are rotated on read differ from reader to reader.
  if (std::ranges::any_of(uses_, [](const RopeUse& use) { return use.unrotated; })) return;
  find_candidates();
  // Neighbours have most tiles in common. Where the next pair has twice as many, the first of them
  // is on its own.
  const std::span<const Candidate> all = candidates_;
  const auto common = [&](size_t i) {
    return i + 1 < all.size() ? common_tiles(all[i], all[i + 1]) : 0;
  };
  for (size_t first = 0, end; first < all.size(); first = end) {
    end = first + 1;
    const uint32_t tiles = common(first);
    uint32_t next = common(end);
    if (tiles == 0 || tiles * 2 <= next) continue;
    for (++end; next >= tiles; ++end) next = common(end);
    add_shared(all.subspan(first, end - first), tiles);
  }
  // As many readers to a part as leave work for all threads.
  const uint64_t heads_of_readers = uint64_t{readers_.size()} * min_kv_heads_;
  const uint32_t most = static_cast<uint32_t>(
      std::clamp<uint64_t>(heads_of_readers / (uint64_t{threads_} * 4), 1, kMaxBlock));
  uint32_t parts = 0;
  for (SharedPiece& piece : shared_pieces_) {
    piece.first_part = parts;
    piece.parts = (piece.readers + most - 1) / most;
    parts += piece.parts;
  }
}

// In an order in which pieces with common first pages are neighbours.
void Plan::find_candidates() {
  candidates_.clear();
  const auto small = [](const RowBlock& block) { return block.rows < kMaxBlock; };
  if (std::ranges::count_if(blocks_, small) < 2) return;
  for (uint32_t b = 0; b < blocks_.size(); ++b) {
    if (!small(blocks_[b])) continue;
    const SequenceEntry& sequence = step_.sequences[step_.sequence_of[blocks_[b].first]];
    uint32_t index = 0;
    for (const AttentionPiece& piece : pieces(b)) {
      const uint32_t span = sequence.first_span + piece.span, page_slots = limits_.page_slots;
      const uint32_t slots = std::min(kPieceSlots, step_.spans[span].slots - piece.first);
      candidates_.push_back({b, index++, span, piece.first,
                             step_.spans[span].first_entry + piece.first / page_slots,
                             (slots + page_slots - 1) / page_slots});
    }
  }
  const std::vector<uint32_t>& table = step_.page_tables.front();
  std::ranges::sort(candidates_, [&](const Candidate& a, const Candidate& b) {
    if (a.first != b.first) return a.first < b.first;
    const auto x = table.begin() + a.entry, y = table.begin() + b.entry;
    const auto [i, j] = std::mismatch(x, x + a.entries, y, y + b.entries);
    if (i == x + a.entries || j == y + b.entries) {
      return a.entries != b.entries ? a.entries < b.entries
                                    : std::pair(a.block, a.piece) < std::pair(b.block, b.piece);
    }
    return *i < *j;
  });
}

// Tiles of both that are in the same pages, of every layer group. A last tile that is not whole is
// common where it ends both pieces.
uint32_t Plan::common_tiles(const Candidate& a, const Candidate& b) const {
  if (a.first != b.first) return 0;
  uint32_t entries = std::min(a.entries, b.entries);
  for (const std::vector<uint32_t>& table : step_.page_tables) {
    const auto x = table.begin() + a.entry;
    const auto same = std::mismatch(x, x + entries, table.begin() + b.entry).first - x;
    entries = static_cast<uint32_t>(same);
  }
  const uint32_t whole = kTileSlots / limits_.page_slots;
  const bool all = entries == a.entries && entries == b.entries;
  return (all ? entries + whole - 1 : entries) / whole;
}

void Plan::add_shared(std::span<const Candidate> blocks, uint32_t tiles) {
  uint32_t readers = 0;
  for (const Candidate& c : blocks) readers += blocks_[c.block].rows;
  if (readers_.size() + readers > kMostReaders) return;
  if (shares_.empty()) shares_.resize(pieces_before_.back());
  SharedPiece shared = {.first = blocks.front().first};
  shared.end = shared.first + tiles * kTileSlots;
  shared.first_reader = static_cast<uint32_t>(readers_.size());
  shared.readers = readers;
  for (const Candidate& c : blocks) {
    shares_[pieces_before_[c.block] + c.piece] = {static_cast<uint32_t>(readers_.size()),
                                                  shared.end};
    const RowBlock& block = blocks_[c.block];
    for (uint32_t r = 0; r < block.rows; ++r) readers_.push_back({block.first + r, c.span});
  }
  shared_pieces_.push_back(shared);
}

}  // namespace tessera::cpu
