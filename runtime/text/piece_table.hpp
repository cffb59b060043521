// The bytes of every token, and the way back from bytes to a normal token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

// One string of all bytes, offsets into it, and a hash table of ids: about 14 bytes a token beside
// the bytes themselves. Immutable once filled; then safe from any thread.
class PieceTable {
 public:
  // Room for `tokens` tokens of `bytes` bytes altogether (below 2^32).
  PieceTable(size_t tokens, size_t bytes);

  // Adds the next token. Only those that are `indexed` are found by `find`; of equal ones the
  // last.
  void add(std::string_view piece, bool indexed);

  int32_t size() const { return static_cast<int32_t>(ends_.size()); }
  // `id` must be in [0, size()). The view lives as long as the table.
  std::string_view operator[](int32_t id) const;
  // The id of an indexed token, or -1.
  int32_t find(std::string_view piece) const;

 private:
  size_t slot(std::string_view piece) const;

  std::string bytes_;
  std::vector<uint32_t> ends_;  // end offset of each token in bytes_
  std::vector<int32_t> slots_;  // ids, -1 if empty; open addressing, at most half full
};

}  // namespace tessera::text
