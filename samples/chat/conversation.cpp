#include "samples/chat/conversation.hpp"

#include <algorithm>
#include <utility>

#include "samples/common/report.hpp"

namespace chat {
namespace {

constexpr std::uint64_t kRoleTokens = 16;   // at most, what the template writes around a turn
constexpr std::uint64_t kLeastAnswer = 16;  // tokens; with less room a turn is refused
constexpr std::uint32_t kDefaultAnswer = 512;

tsr::Session start(const tsr::Context& context, const std::string& system) {
  tsr::Session session(context);
  if (!system.empty()) {
    session.open_role(TSR_ROLE_SYSTEM);
    session.add_text(system);
    session.close_role(TSR_ROLE_SYSTEM);
  }
  return session;
}

std::string system_message(const tsr::Model& model, std::string wanted) {
  const tsr::ModelInfo info = model.info();
  if (!info.chat)
    throw tsr::Exception(TSR_UNSUPPORTED,
                         std::string("this model cannot chat: ") + info.chat_template);
  return wanted.empty() ? model.chat_default_system() : wanted;
}

}  // namespace

Conversation::Conversation(const tsr::Model& model, const tsr::Context& context, std::string system,
                           const tsr::GenerateOptions& options)
    : model_(model),
      context_(context),
      system_(system_message(model, std::move(system))),
      options_(options),
      session_(start(context, system_)),
      beginning_(session_.info().tokens) {
  if (options_.max_tokens == 0) options_.max_tokens = kDefaultAnswer;
}

void Conversation::reset() {
  session_.rewind(beginning_);
}

common::Answer Conversation::say(std::string_view message, common::Interrupt& interrupt,
                                 const std::function<void(std::string_view)>& on_text) {
  const tsr::SessionInfo info = session_.info();
  const std::uint64_t needed = model_.tokenize(message).size() + kRoleTokens;
  if (info.tokens + needed + kLeastAnswer > info.max_tokens)
    throw tsr::Exception(TSR_CAPACITY, "this message needs " + std::to_string(needed) +
                                           " tokens and an answer at least " +
                                           std::to_string(kLeastAnswer) + "; " +
                                           std::to_string(info.max_tokens - info.tokens) + " of " +
                                           std::to_string(info.max_tokens) +
                                           " are left (/reset starts a new conversation)");
  tsr::GenerateOptions options = options_;
  const std::uint64_t left = info.max_tokens - info.tokens - needed;
  options.max_tokens =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(left, options.max_tokens));
  try {
    session_.open_role(TSR_ROLE_USER);
    session_.add_text(message);
    session_.close_role(TSR_ROLE_USER);
    session_.open_role(TSR_ROLE_ASSISTANT);
    common::Answer answer = common::stream_answer(session_, options, interrupt, on_text);
    session_.close_role(TSR_ROLE_ASSISTANT);
    return answer;
  } catch (const tsr::Exception& error) {
    session_.rewind(info.tokens);
    if (error.status() != TSR_CAPACITY) throw;
    throw tsr::Exception(TSR_CAPACITY, std::string(error.what()) +
                                           " (a smaller --max-tokens asks for less, /reset starts "
                                           "a new conversation)");
  }
}

std::string Conversation::stats() const {
  const tsr::SessionInfo info = session_.info();
  const tsr::Metrics metrics = context_.metrics();
  return "session " + std::to_string(info.tokens) + " of " + std::to_string(info.max_tokens) +
         " tokens\nlast answer: " + common::format_report(session_.report()) + "\nKV pages " +
         std::to_string(metrics.pages_used) + " of " + std::to_string(metrics.pages_total) +
         " used, " + std::to_string(metrics.page_bytes) + " bytes each";
}

}  // namespace chat
