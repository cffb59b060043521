// machine_limits [THREADS]: one JSON object with the instruction sets that may be used here, the
// variant of our kernels that is chosen here, and, given THREADS, the machine's limits with them.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>

#include "backends/cpu/isa.hpp"
#include "tests/bench/instruction_sets.hpp"
#include "tests/bench/limits.hpp"

namespace {

const char* chosen_kernels() {
  const char* name = "";
  for (const tessera::cpu::Isa& isa : tessera::cpu::isas()) {
    if (isa.supported()) name = isa.name;
  }
  return name;
}

int run(uint32_t threads) {
  const std::vector<std::string> sets = tessera::bench::usable_instruction_sets();
  nlohmann::json object = {{"instruction_sets", sets}, {"kernels", chosen_kernels()}};
  if (threads > 0) {
    const tessera::bench::Int8Rate int8 = tessera::bench::int8_rate(threads, sets);
    object["threads"] = threads;
    object["read_bytes_per_second"] = tessera::bench::read_bandwidth(threads, sets);
    object["int8_instruction"] = int8.instruction;
    object["int8_macs_per_second"] = int8.macs_per_second;
  }
  std::puts(object.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  uint32_t threads = 0;
  if (argc == 2) {
    const char* end = argv[1] + std::strlen(argv[1]);
    const auto [stop, error] = std::from_chars(argv[1], end, threads);
    if (error != std::errc() || stop != end || threads > 1024) threads = 0;
  }
  if (argc > 2 || (argc == 2 && threads == 0)) {
    std::fputs("usage: machine_limits [THREADS]   (1 to 1024)\n", stderr);
    return 2;
  }
  try {
    return run(threads);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "machine_limits: %s\n", error.what());
    return 1;
  }
}
