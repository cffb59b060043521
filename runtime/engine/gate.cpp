#include "runtime/engine/gate.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "runtime/engine/context.hpp"
#include "runtime/engine/divergence.hpp"

namespace tessera::engine {
namespace {

constexpr uint32_t kDefaultChunks = 4;
constexpr const char* kFact = "Question: Which number, name or date is given above, and of what?";
constexpr const char* kSummary = "Summarise what the texts above explain, in two sentences.";

using Tokens = std::vector<int32_t>;

struct Prompt {
  std::vector<const Tokens*> chunks;
  const Tokens* question;
};

struct Plan {
  std::vector<Tokens> pieces;     // of the texts
  std::vector<Tokens> questions;  // up to the opening of the answer
  std::vector<Prompt> prompts;    // point into the other two
};

// Whole pieces of a text, or the text itself where it is shorter than one.
std::vector<Tokens> cut(const Tokens& text, uint32_t chunk_tokens) {
  if (text.size() <= chunk_tokens) return {text};
  std::vector<Tokens> pieces;
  for (size_t at = 0; at + chunk_tokens <= text.size(); at += chunk_tokens) {
    const auto begin = text.begin() + static_cast<ptrdiff_t>(at);
    pieces.emplace_back(begin, begin + chunk_tokens);
  }
  return pieces;
}

// The first piece of each text, then the second of each: neighbours are of different texts.
std::vector<Tokens> pieces_of(const text::Tokenizer& tokenizer, const GateOptions& options) {
  std::vector<std::vector<Tokens>> texts;
  size_t longest = 0;
  for (const std::string& text : options.texts) {
    texts.push_back(cut(tokenizer.encode(text, false), options.chunk_tokens));
    longest = std::max(longest, texts.back().size());
  }
  std::vector<Tokens> pieces;
  for (size_t i = 0; i < longest; ++i) {
    for (std::vector<Tokens>& text : texts) {
      if (i < text.size()) pieces.push_back(std::move(text[i]));
    }
  }
  return pieces;
}

// As an application would put it: behind an anchor the turn ends, and the answer's begins.
Tokens question_of(const Context& context, const std::string& question) {
  const model::Model& model = context.model();
  const bool turns = context.anchor_tokens() > 0 && model.chat_template().known();
  Tokens tokens = model.tokenizer().encode("\n" + question + (turns ? "" : "\n"), false);
  if (!turns) return tokens;
  for (const Tokens* mark : {&model.chat_template().close(text::Role::user),
                             &model.chat_template().open(text::Role::assistant)}) {
    tokens.insert(tokens.end(), mark->begin(), mark->end());
  }
  return tokens;
}

// Every group of chunks with one question; then, up to max_prompts, with the next.
void plan_prompts(const GateOptions& options, size_t chunks, Plan& plan) {
  const size_t groups = plan.pieces.size() / chunks;
  const size_t count = std::min<size_t>(options.max_prompts, groups * plan.questions.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t group = i % groups, round = i / groups;
    Prompt prompt;
    for (size_t c = 0; c < chunks; ++c) prompt.chunks.push_back(&plan.pieces[group * chunks + c]);
    prompt.question = &plan.questions[(group + round) % plan.questions.size()];
    plan.prompts.push_back(std::move(prompt));
  }
}

void check_room(const Context& context, const GateOptions& options, const Prompt& prompt) {
  uint64_t tokens = context.anchor_tokens() + prompt.question->size() + options.answer_tokens;
  for (const Tokens* chunk : prompt.chunks) tokens += chunk->size();
  if (tokens <= context.max_session_tokens()) return;
  fail(Status::capacity, "a prompt of " + std::to_string(prompt.chunks.size()) +
                             " chunks of chunk_tokens, " + std::to_string(options.chunk_tokens) +
                             ", and its answer have " + std::to_string(tokens) +
                             " tokens; a session has room for " +
                             std::to_string(context.max_session_tokens()));
}

Plan plan_of(const Context& context, const GateOptions& options) {
  Plan plan;
  plan.pieces = pieces_of(context.model().tokenizer(), options);
  std::vector<std::string> questions = options.questions;
  if (questions.empty()) questions = {kFact, kSummary};
  for (const std::string& question : questions) {
    plan.questions.push_back(question_of(context, question));
  }
  const size_t pieces = plan.pieces.size();
  if (options.chunks > pieces) {
    fail(Status::invalid_argument, "chunks is " + std::to_string(options.chunks) +
                                       "; the texts give " + std::to_string(pieces) +
                                       " pieces of chunk_tokens, " +
                                       std::to_string(options.chunk_tokens));
  }
  plan_prompts(options, options.chunks ? options.chunks : std::min<size_t>(kDefaultChunks, pieces),
               plan);
  for (const Prompt& prompt : plan.prompts) check_room(context, options, prompt);
  return plan;
}

// A prompt in a session of the context, while this exists.
class Asked {
 public:
  Asked(Context& context, const SessionOptions& options, const Prompt& prompt)
      : context_(context), session_(context.create_session(options)) {
    try {
      if (context_.anchor_tokens() > 0) context_.add_anchor(*session_);
      for (const Tokens* tokens : prompt.chunks) add_chunk(*tokens);
      context_.add_tokens(*session_, *prompt.question);
    } catch (...) {
      end();
      throw;
    }
  }
  ~Asked() { end(); }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;

  std::vector<float> logits() { return context_.evaluate(*session_, false); }
  void add(int32_t token) { context_.add_tokens(*session_, std::span(&token, 1)); }
  Report report() { return context_.report(*session_); }

 private:
  void add_chunk(const Tokens& tokens) {
    chunks_.reserve(chunks_.size() + 1);
    chunks_.push_back(context_.create_chunk(tokens, true));
    context_.add_chunk(*session_, chunks_.back());
  }
  void end() noexcept {
    context_.close_session(*session_);
    for (kv::CanonicalRef& chunk : chunks_) context_.release_chunk(std::move(chunk));
  }

  Context& context_;
  SessionRef session_;
  std::vector<kv::CanonicalRef> chunks_;
};

// Of two rows of logits.
double checked_divergence(std::span<const float> expected, std::span<const float> ours) {
  const double kl = divergence(expected, ours);
  if (!std::isfinite(kl)) {
    fail(Status::corrupt_file,
         "the model's logits are not finite numbers; its weights must be damaged");
  }
  return kl;
}

struct Sums {
  std::vector<double> kl;  // at each token
  double first = 0;
  uint64_t agreed = 0;
  uint64_t repaired = 0;
  uint64_t chunk_tokens = 0;
};

// Full prefill leads, the setting follows over the same answer.
void compare(Context& context, const GateOptions& options, const Prompt& prompt, Sums& sums) {
  SessionOptions setting = options.session, full = setting;
  full.repair = Repair::full;
  setting.measures = full.measures = true;
  setting.reselect = false;  // each token would be a question
  setting.max_kl = 0;
  Asked leader(context, full, prompt), follower(context, setting, prompt);
  const text::Tokenizer& tokenizer = context.model().tokenizer();
  for (uint32_t i = 0; i < options.answer_tokens; ++i) {
    const std::vector<float> expected = leader.logits(), ours = follower.logits();
    const double kl = checked_divergence(expected, ours);
    const int32_t token = likeliest(expected);
    sums.kl.push_back(kl);
    sums.agreed += likeliest(ours) == token;
    if (i == 0) {
      sums.first += kl;
      sums.repaired += follower.report().tokens_repaired;
    }
    if (tokenizer.is_end_of_generation(token)) break;
    leader.add(token);
    follower.add(token);
  }
  for (const Tokens* chunk : prompt.chunks) sums.chunk_tokens += chunk->size();
}

GateResult result_of(const GateOptions& options, size_t prompts, Sums sums) {
  const auto share = [](double part, size_t whole) {
    return static_cast<float>(part / static_cast<double>(whole));
  };
  double total = 0;
  for (const double kl : sums.kl) total += kl;
  std::ranges::sort(sums.kl);
  GateResult result;
  result.prompts = prompts;
  result.tokens = sums.kl.size();
  result.kl_mean = share(total, sums.kl.size());
  result.kl_first = share(sums.first, prompts);
  result.kl_p90 = static_cast<float>(sums.kl[(sums.kl.size() * 9 + 9) / 10 - 1]);
  result.top1 = share(static_cast<double>(sums.agreed), sums.kl.size());
  result.recomputed = options.session.repair == Repair::full
                          ? 1
                          : share(static_cast<double>(sums.repaired), sums.chunk_tokens);
  return result;
}

}  // namespace

GateResult measure_gate(Context& context, const GateOptions& options) {
  const Plan plan = plan_of(context, options);
  Sums sums;
  try {
    for (const Prompt& prompt : plan.prompts) compare(context, options, prompt, sums);
  } catch (const Error& error) {
    if (error.status() != Status::cancelled) throw;
    fail(Status::cancelled, "the context was destroyed while the gate measured");
  }
  const GateResult result = result_of(options, plan.prompts.size(), std::move(sums));
  context.keep_gate(options.session, result);
  return result;
}

// ---- what the context knows of it

GateKey Context::gate_key(const SessionOptions& options) const {
  GateKey key;
  key.base = fingerprints_[static_cast<size_t>(kv::CanonicalKind::chunk)];
  key.math = model_->math();
  key.repair = options.repair;
  if (options.repairs_heads()) key.head_tokens = options.head_tokens;
  if (options.selects()) {
    key.select_share = options.select_share;
    key.select_layers = options.select_layers;
  }
  return key;
}

std::optional<GateResult> Context::find_gate(const SessionOptions& options) {
  return gates_.find(gate_key(options));
}

void Context::keep_gate(const SessionOptions& options, const GateResult& result) {
  const std::string why = gates_.put(gate_key(options), result);
  if (!why.empty() && log_error_) log_error_("the gate's result is kept in memory only: " + why);
}

void Context::check_gate(const SessionOptions& options) {
  if (options.max_kl == 0 || options.repair == Repair::full) return;
  const std::optional<GateResult> result = find_gate(options);
  if (!result) {
    fail(Status::not_found, "max_kl is " + std::to_string(options.max_kl) +
                                ", and this setting was never measured with this model, KV type, "
                                "anchor and primer: tsr_context_gate measures it");
  }
  if (result->kl_mean <= options.max_kl) return;
  fail(Status::unsupported,
       "max_kl is " + std::to_string(options.max_kl) + ", and the gate measured a mean KL of " +
           std::to_string(result->kl_mean) + " nats for this setting: repair more, or all");
}

}  // namespace tessera::engine
