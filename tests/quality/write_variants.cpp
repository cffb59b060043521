// write_variants FOLDER: the tiny models of variants.hpp, for the oracle to read.
#include <cstdio>
#include <exception>

#include "tests/quality/variants.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_variants FOLDER\n");
    return 2;
  }
  try {
    for (const tessera::test::Variant& variant : tessera::test::oracle_variants()) {
      const std::string path = std::string(argv[1]) + "/" + variant.name + ".gguf";
      tessera::test::write_tiny_model(path, variant.model);
      std::printf("%s\n", path.c_str());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_variants: %s\n", error.what());
    return 1;
  }
  return 0;
}
