// Reads an answer as it is made; Ctrl-C ends the answer and nothing else.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <tessera/tessera.hpp>

#include "samples/common/interrupt.hpp"

namespace common {

struct Answer {
  std::string text;
  tsr_finish finish = TSR_FINISH_NONE;
};

// Starts an answer and reads it to its end. `on_text` gets each piece, whole UTF-8 characters.
// Progress in the prompt is shown on standard error when that is a terminal. Throws tsr::Exception.
Answer stream_answer(tsr::Session& session, const tsr::GenerateOptions& options,
                     Interrupt& interrupt, const std::function<void(std::string_view)>& on_text);

// "end", "stop", "length", "cancelled".
const char* finish_name(tsr_finish finish);

}  // namespace common
