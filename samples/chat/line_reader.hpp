// Lines from standard input, with Ctrl-C noticed while waiting (std::getline would swallow it).
#pragma once

#include <string>

namespace chat {

class LineReader {
 public:
  enum class Result { kLine, kInterrupted, kEnd };

  // Waits for a whole line; `line` gets it without its newline. What was typed before Ctrl-C is
  // dropped, as the terminal does. At the end of input a last line without newline still counts.
  Result read(std::string& line);

 private:
  std::string pending_;  // bytes read behind the last line
};

}  // namespace chat
