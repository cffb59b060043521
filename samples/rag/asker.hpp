// Answers questions from passages of the library. One context for all questions: a passage that two
// questions need is computed once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tessera/tessera.hpp>
#include <vector>

#include "samples/common/answer.hpp"
#include "samples/common/model_options.hpp"
#include "samples/rag/library.hpp"

namespace rag {

struct AskerOptions {
  tsr_repair repair = TSR_REPAIR_DEFAULT;
  tsr::GenerateOptions generate;
  std::string primer;  // Library::primer; empty: the runtime's own
  std::string cache;   // folder that keeps computed passages; empty: none
};

class Asker {
 public:
  // Throws tsr::Exception, UNSUPPORTED where the model has no chat template.
  Asker(const tsr::Model& model, const common::ModelOptions& model_options,
        const AskerOptions& options);

  // Answers from `passages`, best first. Throws tsr::Exception; CAPACITY, with the numbers, when
  // passages, question and answer do not fit a session.
  common::Answer ask(const std::string& question, const std::vector<Hit>& passages,
                     common::Interrupt& interrupt,
                     const std::function<void(std::string_view)>& on_text);

  // Passages are written to the cache folder while the answer is made; what still waits is dropped
  // with the asker. This waits for it, ten seconds at most.
  void flush() const;

  // Of the last answer.
  const tsr::Report& report() const { return report_; }

 private:
  const tsr::Chunk& chunk_of(const Hit& passage);

  AskerOptions options_;
  tsr::Context context_;
  std::map<std::string, tsr::Chunk> chunks_;  // by text
  tsr::Report report_;
};

}  // namespace rag
