// A process that uses a cache folder: contexts that read and write chunks and a result of the gate.
//   cache_process MODEL FOLDER ROUNDS SEED
// Writes a byte when it begins. ROUNDS 0: until it is killed; else it ends with 0 if every answer
// was right.
#include <cstdio>
#include <string>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/disk_fixture.hpp"

namespace tessera::test {
namespace {

constexpr uint64_t kPrompts = 4;

void measure(const tsr::Context& context) {
  const std::string a = digits(60, 1), b = digits(60, 2);
  tsr::GateOptions options;
  options.chunk_tokens = 20;
  options.chunks = 2;
  options.max_prompts = 1;
  options.answer_tokens = 2;
  context.gate({a, b}, options);
}

int run(const std::string& model_file, const std::string& folder, uint64_t rounds, uint64_t seed) {
  const tsr::Model model = load_model("cpu", model_file);
  std::vector<std::vector<float>> wanted;
  if (rounds > 0) {
    const tsr::Context plain(model, disk_options(""));
    for (uint64_t i = 0; i < kPrompts; ++i) wanted.push_back(ask(plain, 10 * i));
  }
  std::putchar('x');
  std::fflush(stdout);
  Random random(seed);
  for (uint64_t round = 0; rounds == 0 || round < rounds; ++round) {
    const tsr::Context context(model, disk_options(folder));
    for (uint64_t i = 0; i < kPrompts; ++i) {
      const uint64_t prompt = random.below(kPrompts);
      const std::vector<float> logits = ask(context, 10 * prompt);
      if (rounds > 0 && logits != wanted[prompt]) return 1;
    }
    measure(context);
    if (random.one_in(2)) context.flush();
  }
  return 0;
}

}  // namespace
}  // namespace tessera::test

int main(int count, char** arguments) {
  if (count != 5) return 2;
  try {
    return tessera::test::run(arguments[1], arguments[2], std::stoull(arguments[3]),
                              std::stoull(arguments[4]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cache_process: %s\n", error.what());
    return 3;
  }
}
