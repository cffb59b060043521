// What this machine can do at most: the two rates that bound a language model on a processor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::bench {

// Bytes a second that `threads` threads read from memory together: 512 MiB, each thread its own
// part of them, front to back; the best of several passes.
double read_bandwidth(uint32_t threads, const std::vector<std::string>& instruction_sets);

struct Int8Rate {
  std::string instruction;     // "vpdpbusd zmm"; empty where there is none that is known here
  double macs_per_second = 0;  // products of 8-bit numbers, added up
};

// Integer dot products on registers only, on `threads` threads; the best of several passes and of
// the instructions there are.
Int8Rate int8_rate(uint32_t threads, const std::vector<std::string>& instruction_sets);

}  // namespace tessera::bench
