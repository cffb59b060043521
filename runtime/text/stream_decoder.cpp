#include "runtime/text/stream_decoder.hpp"

#include <algorithm>
#include <utility>

#include "backends/error.hpp"
#include "runtime/text/utf8.hpp"

namespace tessera::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// fallback[i]: length of the longest proper prefix of text[0, i) that is also its suffix.
std::vector<size_t> borders(std::string_view text) {
  std::vector<size_t> border(text.size() + 1, 0);
  for (size_t i = 1; i < text.size(); ++i) {
    size_t length = border[i];
    while (length > 0 && text[length] != text[i]) length = border[length];
    border[i + 1] = text[length] == text[i] ? length + 1 : 0;
  }
  return border;
}

}  // namespace

std::string StreamDecoder::push(std::string_view bytes) {
  tail_ += bytes;
  std::string text;
  text.reserve(tail_.size());
  std::string_view rest = tail_;
  while (!rest.empty()) {
    const Utf8Unit unit = utf8_unit(rest);
    if (unit.kind == Utf8::incomplete) break;
    text += unit.kind == Utf8::valid ? rest.substr(0, unit.length) : kReplacement;
    rest.remove_prefix(unit.length);
  }
  tail_ = std::string(rest);
  return text;
}

std::string StreamDecoder::flush() {
  const bool cut = !tail_.empty();
  tail_.clear();
  return cut ? std::string(kReplacement) : std::string();
}

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    if (stop.empty()) {
      fail(Status::invalid_argument, "a stop string is empty; it should have at least one byte");
    }
    std::vector<size_t> fallback = borders(stop);
    stops_.push_back({std::move(stop), std::move(fallback)});
  }
}

// Takes one byte of the stream; the length of the stop string that it completes, or 0.
size_t StopMatcher::advance(char c) {
  size_t completed = 0;
  for (Stop& stop : stops_) {
    while (stop.matched > 0 && stop.text[stop.matched] != c) {
      stop.matched = stop.fallback[stop.matched];
    }
    if (stop.text[stop.matched] == c) ++stop.matched;
    if (stop.matched == stop.text.size()) completed = std::max(completed, stop.matched);
  }
  return completed;
}

StopMatcher::Output StopMatcher::push(std::string_view text) {
  if (stopped_) return {"", true};
  for (const char c : text) {
    held_.push_back(c);
    if (const size_t length = advance(c); length > 0) {
      stopped_ = true;
      held_.resize(held_.size() - length);
      return {std::exchange(held_, {}), true};
    }
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return {std::move(shown), false};
}

std::string StopMatcher::flush() {
  for (Stop& stop : stops_) stop.matched = 0;
  stopped_ = false;
  return std::exchange(held_, {});
}

}  // namespace tessera::text
