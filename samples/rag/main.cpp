// tessera-rag: index a folder, then ask questions about what is in it.
#include <CLI/CLI.hpp>
#include <functional>

#include "samples/common/program.hpp"
#include "samples/rag/commands.hpp"

int main(int argc, char** argv) {
  rag::IndexOptions index;
  rag::AskOptions ask;
  CLI::App app("Answers questions from the documents in a folder, on this machine.", "tessera-rag");
  app.require_subcommand(1);
  CLI::App* index_command = app.add_subcommand("index", "Bring a library up to date with a folder");
  CLI::App* ask_command = app.add_subcommand("ask", "Answer questions from a library");
  rag::add_index_options(*index_command, index);
  rag::add_ask_options(*ask_command, ask);
  return common::run(app, argc, argv, [&] {
    return index_command->parsed() ? rag::run_index(index) : rag::run_ask(ask);
  });
}
