// A conversation of several turns in one session: what was said stays computed, each turn adds only
// its own tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <tessera/tessera.hpp>

#include "samples/common/answer.hpp"

namespace chat {

class Conversation {
 public:
  // `system` empty: the model's own system message, if its template has one. `options.max_tokens`
  // is the longest answer. Throws tsr::Exception, UNSUPPORTED where the model has no chat template.
  Conversation(const tsr::Model& model, const tsr::Context& context, std::string system,
               const tsr::GenerateOptions& options);

  // One turn. Throws tsr::Exception, and the session is then as before; CAPACITY, with the numbers,
  // when what is left of the session does not hold the message and a short answer, or the KV budget
  // not the longest one.
  common::Answer say(std::string_view message, common::Interrupt& interrupt,
                     const std::function<void(std::string_view)>& on_text);

  // Forgets everything but the system message.
  void reset();

  // Tokens in use, where the last answer's came from, and the context's pages.
  std::string stats() const;

 private:
  const tsr::Model& model_;
  const tsr::Context& context_;
  std::string system_;
  tsr::GenerateOptions options_;
  tsr::Session session_;
  std::uint64_t beginning_;  // tokens of the system message
};

}  // namespace chat
