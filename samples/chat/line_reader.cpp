#include "samples/chat/line_reader.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace chat {

LineReader::Result LineReader::read(std::string& line) {
  while (true) {
    if (const std::size_t newline = pending_.find('\n'); newline != std::string::npos) {
      line = pending_.substr(0, newline);
      pending_.erase(0, newline + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return Result::kLine;
    }
    std::array<char, 4096> buffer;
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count > 0) {
      pending_.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (count < 0 && errno == EINTR) {
      pending_.clear();
      return Result::kInterrupted;
    } else {
      line = std::exchange(pending_, {});
      return line.empty() ? Result::kEnd : Result::kLine;
    }
  }
}

}  // namespace chat
