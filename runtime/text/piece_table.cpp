#include "runtime/text/piece_table.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace tessera::text {

PieceTable::PieceTable(size_t tokens, size_t bytes)
    : slots_(std::bit_ceil(std::max<size_t>(16, 2 * tokens)), -1) {
  bytes_.reserve(bytes);
  ends_.reserve(tokens);
}

void PieceTable::add(std::string_view piece, bool indexed) {
  bytes_ += piece;
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  if (indexed && !piece.empty()) slots_[slot(piece)] = size() - 1;
}

std::string_view PieceTable::operator[](int32_t id) const {
  const size_t begin = id == 0 ? 0 : ends_[id - 1];
  return std::string_view(bytes_).substr(begin, ends_[id] - begin);
}

int32_t PieceTable::find(std::string_view piece) const {
  return slots_[slot(piece)];
}

size_t PieceTable::slot(std::string_view piece) const {
  const size_t mask = slots_.size() - 1;
  size_t at = std::hash<std::string_view>()(piece) & mask;
  while (slots_[at] >= 0 && (*this)[slots_[at]] != piece) at = (at + 1) & mask;
  return at;
}

}  // namespace tessera::text
