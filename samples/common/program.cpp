#include "samples/common/program.hpp"

#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>

namespace common {
namespace {

int parse_and_run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // --help is one too, with status 0
    return app.exit(error) == 0 ? 0 : kFailed;
  }
  return body();
}

// A full disk or a closed pipe shows only when the buffers are written.
void flush_output() {
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout)
    throw std::runtime_error("standard output could not be written");
}

}  // namespace

int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    const int status = parse_and_run(app, argc, argv, body);
    flush_output();
    return status;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), error.what());
    return kFailed;
  }
}

}  // namespace common
