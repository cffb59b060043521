// logits_dump MODEL TOKENS LOGITS [fast]: reads int32 ids from the file TOKENS, writes the logits
// of every position to the file LOGITS, float32 [positions][vocabulary]. Reference mode and F32 KV,
// or fast mode and F16 KV.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tessera/tessera.hpp"

namespace {

void dump(const char* model_path, const char* tokens_path, const char* logits_path, bool fast) {
  std::ifstream in(tokens_path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<int32_t> tokens(bytes.size() / sizeof(int32_t));
  std::copy_n(bytes.data(), tokens.size() * sizeof(int32_t),
              reinterpret_cast<char*>(tokens.data()));
  if (tokens.empty()) throw std::runtime_error(std::string(tokens_path) + ": no tokens");

  tsr::ModelOptions model_options;
  model_options.math = fast ? TSR_MATH_FAST : TSR_MATH_REFERENCE;
  const tsr::Runtime runtime;
  const tsr::Model model(runtime, model_path, model_options);
  tsr::ContextOptions context_options;
  context_options.kv_type = fast ? TSR_KV_F16 : TSR_KV_F32;
  const tsr::Context context(model, context_options);
  tsr::Session session(context);
  session.add_tokens(tokens);
  const std::vector<float> logits = session.evaluate(TSR_LOGITS_ALL);
  std::ofstream out(logits_path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(logits.data()),
            static_cast<std::streamsize>(logits.size() * sizeof(float)));
  if (!out.flush()) throw std::runtime_error(std::string(logits_path) + ": cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  const bool fast = argc == 5 && std::string(argv[4]) == "fast";
  if (argc != 4 && !fast) {
    std::fprintf(stderr, "usage: logits_dump MODEL TOKENS LOGITS [fast]\n");
    return 2;
  }
  try {
    dump(argv[1], argv[2], argv[3], fast);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "logits_dump: %s\n", error.what());
    return 1;
  }
  return 0;
}
