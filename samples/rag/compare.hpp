// What reuse does to an answer: the same question with nothing computed before, and with its
// passages computed.
#pragma once

#include <string>
#include <tessera/tessera.hpp>
#include <vector>

#include "samples/common/model_options.hpp"
#include "samples/rag/asker.hpp"

namespace rag {

struct Round {
  std::string name;   // "cold"
  std::string what;   // what it shows, one line
  std::string order;  // of the passages in the prompt, by number: "3 2 1"
  common::Answer answer;
  tsr::Report report;
};

// Cold, then warm: the passages are in memory and stand in another order, the best one next to the
// question as before where there are three, so that prompts differ right behind the anchor. Ends
// early where Ctrl-C is pressed. Throws tsr::Exception.
std::vector<Round> compare(const tsr::Model& model, const common::ModelOptions& model_options,
                           const AskerOptions& options, const std::string& question,
                           const std::vector<Hit>& passages);

// What each round is, then the reports side by side, a column a round.
std::string format_rounds(const std::vector<Round>& rounds);

}  // namespace rag
