// Puts prompts to the engine, each method against full prefill.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/context.hpp"
#include "tests/bench/quality/methods.hpp"
#include "tests/bench/quality/prompts.hpp"

namespace tessera::quality {

struct Settings {
  KvType kv_type = KvType::f16;
  KvType reference_kv = KvType::f16;  // of full prefill, with which all are compared
  uint32_t threads = 2;
  uint32_t head_tokens = 16;
  float select_share = 0.05f;
  float select_layers = 1.0f / 3;
  uint32_t answer_tokens = 24;  // of full prefill's answer, which all are compared over
  uint32_t own_tokens = 64;     // of each method's own answer at most; 0: none is made
};

// Of one prompt.
struct Outcome {
  std::vector<double> kl;  // at each token of the answer, nats
  double agreement = 0;    // share of them with the same likeliest token
  double recomputed = 0;   // share of the chunks' tokens
  uint64_t bytes_shared = 0;
  uint64_t bytes_private = 0;
  std::optional<double> ttft_ms;  // chunks and anchor ready, nothing else; none: not comparable
  std::optional<double> length_ratio;  // of own answers
  std::optional<bool> hit;             // of own answers: what was wanted is in them
  std::optional<bool> full_hit;        // likewise, full prefill's answer
};

class Runner {
 public:
  Runner(std::shared_ptr<const model::Model> model, const Settings& settings,
         const std::string& primer);

  // An outcome for each of `methods`, in their order, for each prompt. Prompts with the same chunks
  // cost less together.
  std::vector<std::vector<Outcome>> run(std::span<const Prompt> prompts,
                                        const std::vector<const Method*>& methods);

 private:
  // Full prefill.
  struct Reference {
    Tokens own;                 // its answer as far as it is asked for
    bool ended = false;         // the model ended it there
    Tokens answer;              // its first tokens, which all are compared over
    size_t rows = 0;            // logits: before each of them, and behind where it ended there
    std::vector<float> logits;  // [row][vocabulary]
    std::vector<uint32_t> most_changed;  // by CacheBlend's rule
  };
  Tokens encode(const std::string& text, bool special) const;
  Reference refer(const Prompt& prompt, bool changes);
  Outcome measure(const Method& method, const Prompt& prompt, const Reference& reference);
  void compare(const Reference& reference, std::span<const float> logits, Outcome& outcome) const;
  void count_bytes(engine::Context& context, const engine::SessionState& session,
                   Accounting accounting, Outcome& outcome) const;
  Tokens own_answer(engine::Context& context, engine::SessionRef session, const Method& method,
                    const Prompt& prompt, const Reference& reference, bool agrees);
  engine::SessionRef open(engine::Context& context, const Prompt& prompt,
                          const engine::SessionOptions& options, bool anchor_text);
  engine::SessionOptions options_of(const Method& method, const Reference& reference) const;
  Tokens answer(engine::Context& context, engine::SessionState& session, uint32_t tokens,
                bool& ended);
  std::vector<float> rest_of_rows(engine::Context& context, engine::SessionState& session,
                                  const Reference& reference);

  std::shared_ptr<const model::Model> model_;
  Settings settings_;
  engine::Context primed_;
  engine::Context alone_;
  std::optional<engine::Context> reference_;  // where its KV is of another type than alone_'s
};

}  // namespace tessera::quality
