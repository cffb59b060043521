// Puts prompts to the engine, each method against full prefill.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/context.hpp"
#include "tests/bench/quality/methods.hpp"
#include "tests/bench/quality/prompts.hpp"

namespace tessera::quality {

struct Settings {
  KvType kv_type = KvType::f16;
  uint32_t threads = 2;
  uint32_t head_tokens = 16;
  float select_share = 0.05f;
  float select_layers = 1.0f / 3;
  uint32_t answer_tokens = 24;  // of full prefill's answer, which all are compared over
  uint32_t own_tokens = 0;      // of each method's own answer; 0: none is made
};

// Of one prompt.
struct Outcome {
  std::vector<double> kl;  // at each token of the answer, nats
  double agreement = 0;    // share of them with the same likeliest token
  double recomputed = 0;   // share of the chunks' tokens
  double bytes_shared = 0;
  double bytes_private = 0;
  double ttft_ms = 0;  // chunks ready
  double length_ratio = 0;
  bool found = false;  // of own answers: what was wanted is in them
};

class Runner {
 public:
  Runner(std::shared_ptr<const model::Model> model, const Settings& settings,
         const std::string& primer);

  Tokens encode(const std::string& text, bool special) const;
  // An outcome for each of `methods`, in their order.
  std::vector<Outcome> run(const Prompt& prompt, const std::vector<const Method*>& methods);

 private:
  struct Reference {
    Tokens answer;
    size_t rows = 0;            // of its logits
    std::vector<float> logits;  // [row][vocabulary]
    std::vector<uint32_t> most_changed;
    size_t own_length = 0;
  };
  Reference refer(const Prompt& prompt, bool changes);
  Outcome measure(const Method& method, const Prompt& prompt, const Reference& reference);
  engine::SessionRef open(engine::Context& context, const Prompt& prompt,
                          const engine::SessionOptions& options, bool anchor_text);
  engine::SessionOptions options_of(const Method& method, const Reference& reference) const;
  Tokens answer(engine::Context& context, engine::SessionState& session, uint32_t tokens,
                bool& ended);
  std::vector<float> rows(engine::Context& context, engine::SessionState& session,
                          const Reference& reference);

  std::shared_ptr<const model::Model> model_;
  Settings settings_;
  engine::Context primed_;
  engine::Context alone_;
};

}  // namespace tessera::quality
