// Byte-pair encoding of one word: start from its bytes, always merge the neighbours whose merge
// stands first in the list, leftmost first among equals.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tessera::text {

// (left token, right token) -> rank: open addressing, 12 bytes a slot, at most 2/3 full.
// Immutable after `set` is over; then safe from any thread.
class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  MergeTable() : MergeTable(0) {}
  explicit MergeTable(size_t merges);
  // A pair that is set again takes the new rank. At most `merges` different pairs.
  void set(int32_t left, int32_t right, uint32_t rank);
  // kNone if the pair does not merge.
  uint32_t rank(int32_t left, int32_t right) const;

 private:
  size_t slot(uint64_t key) const;

  std::vector<uint64_t> keys_;  // left << 32 | right; all ones if empty
  std::vector<uint32_t> ranks_;
  int shift_;  // 64 - log2(slots)
};

class Bpe {
 public:
  // Working memory of `encode`, to be kept from word to word by one thread.
  class Scratch {
    friend class Bpe;
    struct Symbol {
      int32_t id;    // -1 once merged into its left neighbour
      int32_t left;  // index of the neighbour, -1 at the ends
      int32_t right;
    };
    std::vector<int32_t> ids;
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;  // rank << 32 | index of the left symbol
  };

  // `byte_ids`: the token of each byte, -1 where the vocabulary has none. `results[rank]` is the
  // token that the merge of that rank gives.
  Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges, std::vector<int32_t> results)
      : byte_ids_(byte_ids), merges_(std::move(merges)), results_(std::move(results)) {}

  // Appends the tokens of `word`, at most 2^31 - 1 bytes. Bytes without a token are left out, as
  // Hugging Face does; their neighbours then stand side by side. O(n log n) for n bytes.
  void encode(std::string_view word, Scratch* scratch, std::vector<int32_t>* out) const;

  // The token of a single byte, or -1.
  int32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }

 private:
  void merge_short(Scratch* scratch) const;
  void merge_long(Scratch* scratch) const;

  std::array<int32_t, 256> byte_ids_;
  MergeTable merges_;
  std::vector<int32_t> results_;
};

}  // namespace tessera::text
