// Writes the tiny model for programs that cannot link C++: make_model PATH.
#include <cstdio>
#include <exception>

#include "tests/fuzz/tiny_model.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s PATH\n", argv[0]);
    return 2;
  }
  try {
    tessera::test::write_tiny_model(argv[1], tessera::test::TinyModel{});
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
