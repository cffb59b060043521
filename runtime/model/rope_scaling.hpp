// RoPE frequencies with all scaling applied, so that rotation is linear in the position and keys
// may be kept in any frame.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backends/graph.hpp"

namespace tessera::gguf {
class Reader;
}

namespace tessera::model {

struct Hyperparameters;

enum class RopeScalingKind : uint8_t { none, linear, yarn };

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::none;
  double factor = 1.0;            // how many times the original context
  double original_context = 0.0;  // tokens; YaRN only
  double attention_factor = 1.0;  // YaRN: multiplies 1 + 0.1 ln(factor)
  double beta_fast = 32.0;        // YaRN: rotations within the original context above which a
  double beta_slow = 1.0;         // pair keeps its frequency, and below which it is divided
  std::vector<float> divisors;    // Llama-3: one a pair, from the tensor rope_freqs.weight
};

// Reads `<architecture>.rope.scaling.*` (and the older `rope.scale_linear`), not the divisors.
// Throws unsupported for kinds that change with the length of the prompt (dynamic NTK, LongRoPE):
// keys already stored would become wrong. Throws corrupt_file for bad numbers.
RopeScaling read_rope_scaling(const gguf::Reader& reader, const Hyperparameters& h);

// frequencies[i] of pair i of `dims` elements: base^(-2i / dims), scaled. YaRN as in
// arXiv 2309.00071.
Rope make_rope(uint32_t dims, double base, const RopeScaling& scaling, RopePairing pairing);

}  // namespace tessera::model
