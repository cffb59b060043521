#include "samples/common/interrupt.hpp"

namespace common {
namespace {

volatile std::sig_atomic_t pressed = 0;

extern "C" void on_interrupt(int) {
  pressed = 1;
}

}  // namespace

Interrupt::Interrupt() {
  pressed = 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a waiting read returns
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &before_, nullptr);
}

bool Interrupt::take() {
  const bool was = pressed != 0;
  pressed = 0;
  return was;
}

}  // namespace common
