// The models that the exactness tests run on, and text for them.
#pragma once

#include <string>
#include <vector>

#include "tests/quality/engine_rig.hpp"

namespace tessera::test {

// Reads as well behind a system message as in a document.
inline constexpr char kAnchor[] =
    "<|im_start|>system\nAnswer from the documents.<|im_end|>\n<|im_start|>user\n";

// Models by name: "tiny" (random weights) and "SmolLM2" (the default model). Loaded once per math
// mode and kept for the program. Null: not in models/.
ModelRef subject(const std::string& name, MathMode math);

// Pieces of one English text, one behind the other; longer ones for the tiny model.
struct Material {
  Tokens text, chunk_a, chunk_b, question;

  Tokens all() const;                 // text, chunk_a, chunk_b, question
  std::vector<Piece> pieces() const;  // the same without the question
};
Material material(const model::Model& model, const std::string& name);

}  // namespace tessera::test
