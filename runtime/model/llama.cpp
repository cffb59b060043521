// The llama family: RMS norm, rotary attention with grouped KV heads, gated SiLU feed-forward.
// Five fused ops a layer, and one that runs only where a step asks for it:
//   q      = norm + qkv, K rotated, K and V stored
//   a      = attention over the spans of the row's sequence
//   (how much rows attend to each slot)
//   x      = x + a Wo
//   h      = norm + silu(gate) * up
//   x      = x + h Wdown
#include <cmath>

#include "runtime/model/architecture.hpp"
#include "runtime/model/weight_source.hpp"

namespace tessera::model {
namespace {

struct Layer {
  std::unique_ptr<Weight> attn_norm, wq, wk, wv, wo;
  std::unique_ptr<Weight> ffn_norm, gate, up, down;
};

class Llama final : public Architecture {
 public:
  Llama(const Hyperparameters& h, WeightSource& source);

  Graph build_graph(const GraphOptions& options) const override;
  std::vector<LayerGroup> layer_groups() const override;
  uint64_t parameters() const override { return parameters_; }
  uint64_t device_bytes() const override { return device_bytes_; }

 private:
  std::unique_ptr<Weight> take(WeightSource& source, const std::string& name, uint32_t rows,
                               uint32_t columns, uint32_t uses = kUseMatmul);

  Hyperparameters h_;
  Rope rope_;
  std::unique_ptr<Weight> embedding_;
  std::unique_ptr<Weight> output_norm_;
  std::unique_ptr<Weight> output_;  // null: tied to the embedding
  std::vector<Layer> layers_;
  uint64_t parameters_ = 0;
  uint64_t device_bytes_ = 0;
};

std::unique_ptr<Weight> Llama::take(WeightSource& source, const std::string& name, uint32_t rows,
                                    uint32_t columns, uint32_t uses) {
  std::unique_ptr<Weight> weight = source.load(name, rows, columns, uses);
  parameters_ += uint64_t{rows} * columns;
  device_bytes_ += weight->device_bytes();
  return weight;
}

Llama::Llama(const Hyperparameters& h, WeightSource& source) : h_(h) {
  RopeScaling scaling = read_rope_scaling(source.reader(), h);
  const std::string divisors = "rope_freqs.weight";
  if (source.has(divisors)) {
    scaling.divisors = source.load_host(divisors, h.rope_dims / 2);
    for (float d : scaling.divisors) {
      if (!std::isfinite(d) || d <= 0) {
        fail(Status::corrupt_file, source.reader().path() + ": tensor " + divisors + " holds " +
                                       std::to_string(d) + ", must be positive numbers");
      }
    }
  }
  // GGUF stores llama's Wq and Wk permuted so that RoPE pairs adjacent elements.
  rope_ = make_rope(h.rope_dims, h.rope_base, scaling, RopePairing::adjacent);

  const bool tied = !source.has("output.weight");
  embedding_ = take(source, "token_embd.weight", h.vocabulary, h.width,
                    kUseGather | (tied ? kUseMatmul : 0u));
  const uint32_t q_width = h.heads * h.head_dim;
  const uint32_t kv_width = h.kv_heads * h.head_dim;
  layers_.resize(h.layers);
  for (uint32_t l = 0; l < h.layers; ++l) {
    const std::string p = "blk." + std::to_string(l) + ".";
    Layer& layer = layers_[l];
    layer.attn_norm = take(source, p + "attn_norm.weight", 1, h.width);
    layer.wq = take(source, p + "attn_q.weight", q_width, h.width);
    layer.wk = take(source, p + "attn_k.weight", kv_width, h.width);
    layer.wv = take(source, p + "attn_v.weight", kv_width, h.width);
    layer.wo = take(source, p + "attn_output.weight", h.width, q_width);
    layer.ffn_norm = take(source, p + "ffn_norm.weight", 1, h.width);
    layer.gate = take(source, p + "ffn_gate.weight", h.ffn_width, h.width);
    layer.up = take(source, p + "ffn_up.weight", h.ffn_width, h.width);
    layer.down = take(source, p + "ffn_down.weight", h.width, h.ffn_width);
  }
  output_norm_ = take(source, "output_norm.weight", 1, h.width);
  if (!tied) output_ = take(source, "output.weight", h.vocabulary, h.width);
}

Graph Llama::build_graph(const GraphOptions& options) const {
  Graph g;
  g.vocabulary = h_.vocabulary;
  g.ropes.push_back(rope_);
  const Value x = g.add_value(h_.width);
  const Value q = g.add_value(h_.heads * h_.head_dim);
  const Value a = g.add_value(h_.heads * h_.head_dim);
  const Value log_sum = g.add_value(h_.heads);
  const Value ffn = g.add_value(h_.ffn_width);
  const float scale = 1.0f / std::sqrt(static_cast<float>(h_.head_dim));

  g.ops.push_back(Embed{embedding_.get(), 1.0f, x});
  for (uint32_t l = 0; l < h_.layers; ++l) {
    const Layer& w = layers_[l];
    const AttentionShape shape{l, h_.heads, h_.kv_heads, h_.head_dim, 0, options.key_form};
    g.ops.push_back(NormQkv{x, w.attn_norm.get(), w.wq.get(), w.wk.get(), w.wv.get(),
                            h_.norm_epsilon, shape, q});
    g.ops.push_back(SpanAttention{q, scale, shape, a, log_sum});
    g.ops.push_back(AttentionMass{q, log_sum, scale, shape});
    g.ops.push_back(LinearResidual{a, w.wo.get(), x, x});
    g.ops.push_back(NormGatedFfn{x, w.ffn_norm.get(), w.gate.get(), w.up.get(), h_.norm_epsilon,
                                 Activation::silu, ffn});
    g.ops.push_back(LinearResidual{ffn, w.down.get(), x, x});
  }
  const Weight* head = output_ ? output_.get() : embedding_.get();
  g.ops.push_back(Logits{x, output_norm_.get(), head, h_.norm_epsilon});
  return g;
}

std::vector<LayerGroup> Llama::layer_groups() const {
  LayerGroup group{{}, h_.kv_heads, h_.head_dim, 0};
  for (uint32_t l = 0; l < h_.layers; ++l) group.layers.push_back(l);
  return {group};
}

}  // namespace

std::unique_ptr<Architecture> load_llama(const Hyperparameters& h, WeightSource& source) {
  return std::make_unique<Llama>(h, source);
}

}  // namespace tessera::model
