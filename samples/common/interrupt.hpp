// Ctrl-C as a flag that a loop looks at, in place of the end of the program.
#pragma once

#include <csignal>

namespace common {

// While one exists, SIGINT sets a flag, and system calls that wait return with EINTR. One at a
// time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Whether Ctrl-C was pressed since the last call.
  bool take();

 private:
  struct sigaction before_ {};
};

}  // namespace common
