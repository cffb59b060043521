// What every sample's main does: read the command line, run, tell what went wrong, exit.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace common {

// Exit status of a program that failed, wrong options included.
inline constexpr int kFailed = 1;

// Parses the command line and runs `body`, which returns the exit status. What is wrong with an
// option and what `body` throws is written to standard error; then the status is kFailed, and so it
// is when standard output could not be written.
int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

}  // namespace common
