// tessera-chat: talk to a model in the terminal, or through a pipe, one line a turn.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <random>
#include <string>

#include "samples/chat/conversation.hpp"
#include "samples/chat/line_reader.hpp"
#include "samples/common/model_options.hpp"
#include "samples/common/program.hpp"

namespace {

constexpr const char* kHelp =
    "/help   this text\n"
    "/reset  start a new conversation\n"
    "/stats  tokens, times and memory of this one\n"
    "/quit   leave (so do Ctrl-D, and Ctrl-C twice at the prompt)\n"
    "Ctrl-C during an answer ends that answer. Everything else is said to the model.\n";

struct Options {
  common::ModelOptions model;
  tsr::GenerateOptions generate;
  std::string system;
};

// A number in a range. CLI::Range lets NaN pass.
CLI::Validator between(int least, int most) {
  const auto check = [least, most](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return "";
    return text + " is not a number from " + std::to_string(least) + " to " + std::to_string(most);
  };
  return CLI::Validator(check, "");
}

// Writes an answer as it comes.
void answer(chat::Conversation& conversation, const std::string& message,
            common::Interrupt& interrupt) {
  const common::Answer answer = conversation.say(
      message, interrupt, [](std::string_view text) { std::cout << text << std::flush; });
  std::cout << '\n' << std::flush;
  if (answer.finish == TSR_FINISH_LENGTH)
    std::cerr << "[cut off: no room for a longer answer, see --max-tokens and /stats]\n";
  if (answer.finish == TSR_FINISH_CANCELLED) std::cerr << "[cancelled]\n";
}

// Returns false to leave.
bool obey(const std::string& line, chat::Conversation& conversation, common::Interrupt& interrupt) {
  if (line == "/quit") return false;
  if (line == "/help") {
    std::cout << kHelp;
  } else if (line == "/reset") {
    conversation.reset();
    std::cerr << "[new conversation]\n";
  } else if (line == "/stats") {
    std::cout << conversation.stats() << '\n';
  } else if (line.front() == '/') {
    std::cerr << "unknown command " << line << "; /help lists them\n";
  } else {
    answer(conversation, line, interrupt);
  }
  return true;
}

// A session that is full, a KV budget that is used up or a line that is not UTF-8 is told, and the
// conversation goes on.
bool obey_or_explain(const std::string& line, chat::Conversation& conversation,
                     common::Interrupt& interrupt) {
  try {
    return obey(line, conversation, interrupt);
  } catch (const tsr::Exception& error) {
    if (error.status() != TSR_CAPACITY && error.status() != TSR_INVALID_ARGUMENT) throw;
    std::cerr << "tessera-chat: " << error.what() << '\n';
    return true;
  }
}

int chat_loop(const Options& options) {
  const tsr::Runtime runtime;
  const tsr::Model model = common::load_model(runtime, options.model);
  const tsr::Context context(model, common::context_options(options.model));
  chat::Conversation conversation(model, context, options.system, options.generate);

  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    std::cerr << common::describe(options.model, model.info())
              << ". /help lists the commands, Ctrl-D leaves.\n";
  common::Interrupt interrupt;
  chat::LineReader reader;
  std::string line;
  for (bool warned = false;;) {
    if (terminal) std::cout << "> " << std::flush;
    const chat::LineReader::Result result = reader.read(line);
    if (result == chat::LineReader::Result::kEnd) {
      if (terminal) std::cout << '\n';
      return 0;
    }
    if (result == chat::LineReader::Result::kInterrupted) {
      if (!interrupt.take()) continue;  // another signal
      std::cout << '\n';
      if (warned || !terminal) return 0;
      std::cerr << "[Ctrl-C again or Ctrl-D leaves]\n";
      warned = true;
      continue;
    }
    warned = false;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (!obey_or_explain(line, conversation, interrupt)) return 0;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.generate.temperature = 0.2f;
  options.generate.top_p = 0.9f;
  options.generate.seed = std::random_device{}();

  CLI::App app("Talk to a language model. It runs on this machine and nothing leaves it.",
               "tessera-chat");
  common::add_model_options(app, options.model);
  app.add_option("-s,--system", options.system, "System message (default: the model's own)");
  app.add_option("--max-tokens", options.generate.max_tokens, "Longest answer")
      ->option_text("TOKENS [512]");
  app.add_option("--temperature", options.generate.temperature, "0 takes the likeliest token")
      ->check(between(0, 1000))
      ->capture_default_str();
  app.add_option("--top-k", options.generate.top_k, "Only the k likeliest tokens; 0 is off")
      ->capture_default_str();
  app.add_option("--top-p", options.generate.top_p, "Likeliest tokens up to this share; 0 is off")
      ->check(between(0, 1))
      ->capture_default_str();
  app.add_option("--min-p", options.generate.min_p, "Least share of the likeliest; 0 is off")
      ->check(between(0, 1))
      ->capture_default_str();
  app.add_option("--repeat-penalty", options.generate.repetition_penalty,
                 "Divides the logits of tokens that were there; 1 is off")
      ->check(CLI::Range(0.01, 100.0))
      ->option_text("FLOAT [1]");
  app.add_option("--frequency-penalty", options.generate.frequency_penalty,
                 "Taken from a token's logit for each time that it was there")
      ->check(CLI::Range(-100.0, 100.0))
      ->capture_default_str();
  app.add_option("--presence-penalty", options.generate.presence_penalty,
                 "Taken once from the logit of tokens that were there")
      ->check(CLI::Range(-100.0, 100.0))
      ->capture_default_str();
  app.add_option("--penalty-window", options.generate.penalty_window,
                 "How many of the last tokens the penalties look at")
      ->option_text("TOKENS [64]");
  app.add_option("--lookup", options.generate.lookup_tokens,
                 "Longest draft copied from the conversation; same answers, 0 is off")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--seed", options.generate.seed, "Same seed, same answers")
      ->option_text("NUMBER [random]");
  return common::run(app, argc, argv, [&] { return chat_loop(options); });
}
