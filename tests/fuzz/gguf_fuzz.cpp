// gguf_fuzz COUNT SEED [FIRST]: loads COUNT damaged model files, numbers FIRST and up.
//
// Case N of a seed is the same on every machine: `gguf_fuzz 1 SEED N` repeats it. Exits with 0 when
// every file loads or is refused cleanly. A file that crashes the program stays behind, in the
// folder that is printed first; one that takes longer than a minute counts as a crash.
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "tests/fuzz/mutate.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {
namespace {

struct Base {
  std::string file;
  Layout layout;
};

void save(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

// One small model for each tensor type, with the other choices spread over them.
std::vector<Base> make_bases(const TempFolder& folder) {
  std::vector<Base> bases;
  for (size_t i = 0; i < kDTypeCount; ++i) {
    TinyModel model = tiny_model_of(static_cast<DType>(i));
    model.layers = i % 2 + 1;
    model.vocab = 300;
    model.tied = i % 3 != 0;
    model.rope_scaling = static_cast<RopeScaling>(i % 4);
    const std::string path = folder.file("base.gguf");
    write_tiny_model(path, model);
    if (!try_load(path)) throw std::runtime_error("an undamaged model is refused");
    std::ifstream in(path, std::ios::binary);
    std::string file{std::istreambuf_iterator<char>(in), {}};
    bases.push_back({file, find_fields(file)});
  }
  std::filesystem::remove(folder.file("base.gguf"));
  return bases;
}

int run(uint64_t count, uint64_t seed, uint64_t first) {
  constexpr unsigned kSecondsPerFile = 60;
  const TempFolder folder;
  std::printf("gguf_fuzz: %llu files, seed %llu, in %s\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(seed), folder.path().c_str());
  std::fflush(stdout);  // before a crash can lose it
  const std::vector<Base> bases = make_bases(folder);

  uint64_t loaded = 0;
  for (uint64_t i = first; i < first + count; ++i) {
    Random random(hash(std::to_string(i), seed));
    const Base& base = bases[random.below(bases.size())];
    const std::string path = folder.file("case-" + std::to_string(i) + ".gguf");
    save(path, mutate(base.file, base.layout, random));
    ::alarm(kSecondsPerFile);
    try {
      loaded += try_load(path);
    } catch (const std::exception& error) {
      std::printf("gguf_fuzz: case %llu: %s\nrepeat with: gguf_fuzz 1 %llu %llu\n",
                  static_cast<unsigned long long>(i), error.what(),
                  static_cast<unsigned long long>(seed), static_cast<unsigned long long>(i));
      return 1;
    }
    ::alarm(0);
    std::filesystem::remove(path);
  }
  std::printf("gguf_fuzz: %llu loaded, %llu refused\n", static_cast<unsigned long long>(loaded),
              static_cast<unsigned long long>(count - loaded));
  // Damage that never or always shows would mean that the mutations miss.
  constexpr uint64_t kEnough = 100;
  return count >= kEnough && (loaded == 0 || loaded == count) ? 1 : 0;
}

std::optional<uint64_t> number(const char* text) {
  uint64_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

}  // namespace
}  // namespace tessera::test

int main(int argc, char** argv) {
  using tessera::test::number;
  const auto count = argc > 1 ? number(argv[1]) : std::nullopt;
  const auto seed = argc > 2 ? number(argv[2]) : std::nullopt;
  const auto first = argc > 3 ? number(argv[3]) : 0;
  if (argc > 4 || !count || !seed || !first) {
    std::fprintf(stderr, "usage: gguf_fuzz COUNT SEED [FIRST]\n");
    return 2;
  }
  try {
    return tessera::test::run(*count, *seed, *first);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gguf_fuzz: %s\n", error.what());
    return 2;
  }
}
