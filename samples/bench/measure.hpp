// The two tests: reading a prompt (pp) and generating (tg), each behind a context of given depth.
#pragma once

#include <cstdint>
#include <string>
#include <tessera/tessera.hpp>
#include <vector>

namespace bench {

enum class Kind { kPrompt, kGenerate };

struct Test {
  Kind kind;
  std::uint32_t tokens;  // read or generated
  std::uint32_t depth;   // tokens in the context before, not timed
};

// "pp512", "tg128@d4096".
std::string test_name(const Test& test);

// Sessions of one context, filled with random tokens. A repetition never finds its own tokens in
// the prefix cache: those that are timed differ from all before them at the first one; only the
// tokens of the depth, which are not timed, are the same each time.
class Meter {
 public:
  Meter(const tsr::Model& model, const tsr::Context& context);

  // One warm-up, then `repetitions` runs; tokens a second of each, in order. Throws tsr::Exception;
  // INTERNAL, should a timed prompt have come from a cache after all.
  std::vector<double> measure(const Test& test, std::uint32_t repetitions);

 private:
  double run_once(const Test& test);
  std::vector<std::int32_t> fresh_tokens(std::uint32_t count);

  const tsr::Context& context_;
  std::int32_t vocabulary_;
  std::uint64_t random_ = 1;     // state of the generator
  std::int32_t next_first_ = 0;  // first token of the next run
};

// Middle value, or the mean of the two middle ones. `values` is not empty.
double median(std::vector<double> values);

}  // namespace bench
