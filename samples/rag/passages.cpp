#include "samples/rag/passages.hpp"

#include <algorithm>

namespace rag {
namespace {

constexpr std::string_view kSpace = " \t\r\n\f\v";

// A piece that is never cut: a line with its newline, or a part of a line that is too long.
struct Unit {
  std::size_t begin{}, end{}, tokens{};
  bool blank{};  // white space only: a paragraph ends in front of it
};

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

// Where to cut [begin, end) near its middle: behind a sentence, else behind a space, else between
// two characters. 0 when it is one character.
std::size_t middle_cut(std::string_view text, std::size_t begin, std::size_t end) {
  const std::size_t middle = begin + (end - begin) / 2;
  const std::size_t reach = (end - begin) / 4;
  std::size_t space = 0;
  // Nearest first, alternating right and left of the middle.
  for (std::size_t step = 0; step <= reach; ++step) {
    for (const std::size_t at : {middle + step, middle - step}) {
      if (at <= begin || at >= end || (text[at - 1] != ' ' && text[at - 1] != '\t')) continue;
      if (space == 0) space = at;
      const char before = at - 1 > begin ? text[at - 2] : ' ';
      if (before == '.' || before == '!' || before == '?') return at;
    }
  }
  if (space) return space;
  std::size_t at = middle;
  while (at > begin && is_continuation(text[at])) --at;
  if (at > begin) return at;
  at = middle + 1;
  while (at < end && is_continuation(text[at])) ++at;
  return at < end ? at : 0;
}

void append_units(std::string_view text, std::size_t begin, std::size_t end, std::size_t max_tokens,
                  const TokenCounter& count, std::vector<Unit>& units) {
  const std::string_view piece = text.substr(begin, end - begin);
  const std::size_t tokens = count(piece);
  const std::size_t cut = tokens > max_tokens ? middle_cut(text, begin, end) : 0;
  if (cut == 0) {
    const bool blank = piece.find_first_not_of(kSpace) == std::string_view::npos;
    units.push_back({begin, end, tokens, blank});
    return;
  }
  append_units(text, begin, cut, max_tokens, count, units);
  append_units(text, cut, end, max_tokens, count, units);
}

std::vector<Unit> split_units(std::string_view text, std::size_t max_tokens,
                              const TokenCounter& count) {
  std::vector<Unit> units;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t newline = text.find('\n', begin);
    const std::size_t end = newline == std::string_view::npos ? text.size() : newline + 1;
    append_units(text, begin, end, max_tokens, count, units);
    begin = end;
  }
  return units;
}

}  // namespace

std::vector<Passage> split_passages(std::string_view text, std::size_t max_tokens,
                                    const TokenCounter& count) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::vector<Unit> units = split_units(text, max_tokens, count);
  if (!units.empty() && text.substr(0, 3) == kByteOrderMark) units.front().begin = 3;

  std::vector<Passage> passages;
  std::size_t counted = 0;  // newlines in front of this byte are in `line`
  std::uint32_t line = 1;
  for (std::size_t first = 0; first < units.size();) {
    if (units[first].blank) {
      ++first;
      continue;
    }
    // As many units as fit; then back to the last paragraph end if that keeps at least half.
    std::size_t last = first, tokens = 0, paragraph = 0, paragraph_tokens = 0;
    for (; last < units.size(); ++last) {
      if (last > first && tokens + units[last].tokens > max_tokens) break;
      if (units[last].blank) {
        paragraph = last;
        paragraph_tokens = tokens;
      }
      tokens += units[last].tokens;
    }
    if (last < units.size() && paragraph_tokens * 2 >= max_tokens) {
      last = paragraph;
      tokens = paragraph_tokens;
    }
    const std::size_t begin = units[first].begin;
    const std::string_view body = text.substr(begin, units[last - 1].end - begin);
    const std::size_t length = body.find_last_not_of(kSpace) + 1;
    line += static_cast<std::uint32_t>(
        std::count(text.begin() + static_cast<std::ptrdiff_t>(counted),
                   text.begin() + static_cast<std::ptrdiff_t>(begin), '\n'));
    counted = begin;
    if (length > 0)
      passages.push_back({begin, begin + length, line, static_cast<std::uint32_t>(tokens)});
    first = last;
  }
  return passages;
}

}  // namespace rag
