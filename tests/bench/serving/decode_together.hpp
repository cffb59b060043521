// Answers of many sessions at once.
#pragma once

#include <tessera/tessera.hpp>
#include <vector>

namespace serving {

// Lets each of the context's sessions generate options.max_tokens tokens and reads all of them.
// Tokens a second of all, over the time when all decode: from when each session has a token until
// the first one has all of its tokens. 0 where one was done before another had begun. Throws
// std::runtime_error where an answer ends early.
double decode_together(const tsr::Context& context, std::vector<tsr::Session>& sessions,
                       const tsr::GenerateOptions& options);

}  // namespace serving
