// The engine without the C ABI, for options that applications do not have: key forms, layer groups.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/context.hpp"
#include "runtime/model/model.hpp"

namespace tessera::test {

using ModelRef = std::shared_ptr<const model::Model>;
using Tokens = std::vector<int32_t>;

ModelRef load_model(const std::string& path, MathMode math);

// Options of the reference mode: F32 KV, two threads, 64 MiB.
engine::ContextOptions exact_options();

// A piece of a session: tokens, or the same as a chunk.
struct Piece {
  Tokens tokens;
  bool chunk = false;
};

// A context and calls that take a whole session at once.
class EngineRig {
 public:
  EngineRig(ModelRef model, const engine::ContextOptions& options);

  // Logits of every token of `tokens`, or of the last one.
  std::vector<float> logits(const Tokens& tokens, bool all = true);
  // Logits of every token of a session of these pieces, chunks computed in place.
  std::vector<float> full_repair(const std::vector<Piece>& pieces);
  // Logits of every token of `question` behind these pieces; `anchor` puts the context's in front.
  std::vector<float> behind(const std::vector<Piece>& pieces, const Tokens& question,
                            engine::Repair repair = engine::Repair::none, bool anchor = false);
  // The same with any repair; `report` takes that of the question's first token, `chosen` the
  // logical positions of the tokens it selected.
  std::vector<float> behind(const std::vector<Piece>& pieces, const Tokens& question,
                            const engine::SessionOptions& options, bool anchor,
                            engine::Report* report = nullptr,
                            std::vector<uint32_t>* chosen = nullptr);
  // Greedy answers to several sessions at once, each followed by the logits of its last token.
  struct Answer {
    Tokens tokens;
    std::vector<float> logits;
  };
  std::vector<Answer> answers(const std::vector<std::vector<Piece>>& sessions, uint32_t count,
                              engine::Repair repair = engine::Repair::none);

  // A session of these pieces, not computed; close it with context().close_session.
  engine::SessionRef open(const std::vector<Piece>& pieces, engine::Repair repair, bool anchor);
  engine::SessionRef open(const std::vector<Piece>& pieces, const engine::SessionOptions& options,
                          bool anchor);

  engine::Context& context() { return context_; }

 private:
  engine::Context context_;
};

// ---- Comparing rows of logits of equal length.

double max_difference(const std::vector<float>& a, const std::vector<float>& b);
double max_magnitude(const std::vector<float>& a);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);
// Mean over rows of engine::divergence.
double mean_divergence(std::span<const float> expected, std::span<const float> ours,
                       size_t vocabulary);

}  // namespace tessera::test
