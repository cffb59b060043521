// The graph a model builds and a backend compiles: a static list of fused ops over activation
// matrices. Shapes are written [rows][width], row-major; `rows` is the number of tokens of a step.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "backends/dtype.hpp"

namespace tessera {

class Weight;

// Index into Graph::widths: one fp32 activation matrix [rows][width].
using Value = uint32_t;
inline constexpr Value kNoValue = UINT32_MAX;

// Which elements of a head RoPE pairs: (2i, 2i + 1), as GGUF stores llama, or (i, i + n / 2).
enum class RopePairing : uint8_t { adjacent, halves };

// One frequency a pair, in radians a position, all scaling (linear, YaRN, Llama-3) already applied,
// so that rotation is linear in the position. Angles are computed in float64. `magnitude` (YaRN's
// attention factor) multiplies queries and keys once each, where they are rotated.
struct Rope {
  std::vector<double> frequencies;  // rotates the first 2 * size() elements of each head
  double magnitude = 1.0;
  RopePairing pairing = RopePairing::adjacent;
};

// How keys lie in pages.
enum class KeyForm : uint8_t {
  local,      // rotated by (logical position - frame start); the query is rotated to match
  unrotated,  // not rotated; rotated by the logical position on every read (MEPIC's form, a
              // reference to test and time against)
};

enum class Activation : uint8_t { silu };

// Shape of attention, shared by the ops that touch pages.
struct AttentionShape {
  uint32_t layer = 0;     // layer of the model
  uint32_t heads = 0;     // query heads; a multiple of kv_heads
  uint32_t kv_heads = 0;  // query head h reads KV head h / (heads / kv_heads)
  uint32_t head_dim = 0;
  uint32_t rope = 0;  // index into Graph::ropes
  KeyForm key_form = KeyForm::local;
};

// out[r] = table[token[r]] * scale. table: [vocabulary][width].
struct Embed {
  const Weight* table;
  float scale;
  Value out;
};

// x = rms_norm(in, epsilon) * norm; q = x Wq^T, k = x Wk^T, v = x Wv^T.
// q -> out [rows][heads * head_dim], not rotated. k (rotated by the row's key position when the
// form is `local`) and v go to the row's slot of the pages of `shape.layer`.
// norm: [1][width]; wq: [heads * head_dim][width]; wk, wv: [kv_heads * head_dim][width].
struct NormQkv {
  Value in;
  const Weight* norm;
  const Weight* wq;
  const Weight* wk;
  const Weight* wv;
  float epsilon;
  AttentionShape shape;
  Value out;
};

// out[r][h] = sum_j softmax_j(scale * <R(p_r - frame) q[r][h], k_j>) v_j over every slot j of the
// spans of row r's sequence that is valid by the mask and whose logical position is <= p_r (and,
// where the layer's group has a window w > 0, > p_r - w). A row that sees no slot gives zeros.
// q, out: [rows][heads * head_dim]. log_sum, where wanted: [rows][heads], the logarithm of the
// softmax's denominator, -infinity for a row that sees no slot.
struct SpanAttention {
  Value in;
  float scale;
  AttentionShape shape;
  Value out;
  Value log_sum = kNoValue;
};

// For the rows that Step::mass_requests name: adds how much they attend to each slot, the weights
// of SpanAttention (same `in`, `scale` and `shape`, its `log_sum`) summed over rows and heads, to
// StepResult::masses.
struct AttentionMass {
  Value in;
  Value log_sum;
  float scale;
  AttentionShape shape;
};

// out = residual + in W^T. w: [width(out)][width(in)]. out may be the same value as residual.
struct LinearResidual {
  Value in;
  const Weight* w;
  Value residual;
  Value out;
};

// x = rms_norm(in, epsilon) * norm; out = activation(x Wgate^T) * (x Wup^T).
// gate, up: [width(out)][width(in)].
struct NormGatedFfn {
  Value in;
  const Weight* norm;
  const Weight* gate;
  const Weight* up;
  float epsilon;
  Activation activation;
  Value out;
};

// For the rows named by Step::logits only: rms_norm(in, epsilon) * norm, then times head^T.
// head: [vocabulary][width]. The results go to StepResult.
struct Logits {
  Value in;
  const Weight* norm;
  const Weight* head;
  float epsilon;
};

using Op = std::variant<Embed, NormQkv, SpanAttention, AttentionMass, LinearResidual, NormGatedFfn,
                        Logits>;

// Ops run in order. The first is Embed, the last Logits.
struct Graph {
  std::vector<uint32_t> widths;  // by Value
  std::vector<Rope> ropes;
  std::vector<Op> ops;
  uint32_t vocabulary = 0;

  Value add_value(uint32_t width) {
    widths.push_back(width);
    return static_cast<Value>(widths.size() - 1);
  }
};

}  // namespace tessera
