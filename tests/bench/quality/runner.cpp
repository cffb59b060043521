#include "tests/bench/quality/runner.hpp"

#include <algorithm>
#include <chrono>

#include "runtime/engine/divergence.hpp"
#include "tests/bench/quality/key_change.hpp"
#include "tests/bench/quality/probe.hpp"

namespace tessera::quality {
namespace {

engine::ContextOptions context_options(const Settings& settings, const std::string& primer) {
  engine::ContextOptions options;
  options.kv_type = settings.kv_type;
  options.kv_budget = uint64_t{1} << 30;
  options.page_size = kPage;
  options.threads = settings.threads;
  options.anchor = kAnchor;
  options.primer = primer;
  options.chunks_alone = primer.empty();
  return options;
}

uint64_t chunk_tokens(const Prompt& prompt) {
  uint64_t tokens = 0;
  for (const Tokens& chunk : prompt.chunks) tokens += chunk.size();
  return tokens;
}

void encode_chunks(engine::Context& context, const Prompt& prompt) {
  const bool never = false;
  for (const Tokens& tokens : prompt.chunks) {
    kv::CanonicalRef chunk = context.create_chunk(tokens, false);
    context.wait_chunk(chunk, never, -1);
    context.release_chunk(std::move(chunk));
  }
}

}  // namespace

Runner::Runner(std::shared_ptr<const model::Model> model, const Settings& settings,
               const std::string& primer)
    : model_(std::move(model)),
      settings_(settings),
      primed_(model_, context_options(settings, primer)),
      alone_(model_, context_options(settings, "")) {
  if (settings.reference_kv == settings.kv_type) return;
  Settings other = settings;
  other.kv_type = settings.reference_kv;
  reference_.emplace(model_, context_options(other, ""));
}

Tokens Runner::encode(const std::string& text, bool special) const {
  return model_->tokenizer().encode(text, special);
}

std::vector<std::vector<Outcome>> Runner::run(std::span<const Prompt> prompts,
                                              const std::vector<const Method*>& methods) {
  const bool changes = std::ranges::any_of(methods, [](const Method* m) { return m->key_change; });
  // Before anything is forgotten: prompts that begin alike share the KV of the first reference.
  std::vector<Reference> references;
  for (const Prompt& prompt : prompts) references.push_back(refer(prompt, changes));
  std::vector<std::vector<Outcome>> outcomes(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (const Method* method : methods) {
      outcomes[i].push_back(measure(*method, prompts[i], references[i]));
    }
  }
  return outcomes;
}

// A session of the prompt; the chunks have their KV where they are taken as encoded.
engine::SessionRef Runner::open(engine::Context& context, const Prompt& prompt,
                                const engine::SessionOptions& options, bool anchor_text) {
  engine::SessionRef session = context.create_session(options);
  if (anchor_text) {
    context.add_tokens(*session, encode(kAnchor, true));
  } else {
    context.add_anchor(*session);
  }
  if (options.repair != engine::Repair::full) encode_chunks(context, prompt);
  for (const Tokens& tokens : prompt.chunks) {
    kv::CanonicalRef chunk = context.create_chunk(tokens, true);
    context.add_chunk(*session, chunk);
    context.release_chunk(std::move(chunk));
  }
  context.add_tokens(*session, prompt.question);
  return session;
}

// Greedy tokens behind the session; `ended` says that the model ended its turn.
Tokens Runner::answer(engine::Context& context, engine::SessionState& session, uint32_t tokens,
                      bool& ended) {
  const size_t before = context.tokens(session).size();
  engine::GenerateOptions options;
  options.max_tokens = tokens;
  context.generate(session, options);
  engine::Event event;
  do {
    context.next(session, -1, event);
    if (event.kind == engine::EventKind::failed) fail(event.status, event.text);
  } while (event.kind != engine::EventKind::done);
  ended = event.finish == engine::Finish::end;
  const Tokens all = context.tokens(session);
  return {all.begin() + static_cast<ptrdiff_t>(before), all.end()};
}

// Of a session whose logits behind the question are known: those behind each further token that the
// answers are compared over.
std::vector<float> Runner::rest_of_rows(engine::Context& context, engine::SessionState& session,
                                        const Reference& reference) {
  if (reference.rows == 1) return {};
  context.add_tokens(session, std::span(reference.answer).first(reference.rows - 1));
  return context.evaluate(session, true);
}

// Without anything reused but the anchor, and what a reference before this one computed.
Runner::Reference Runner::refer(const Prompt& prompt, bool changes) {
  engine::SessionOptions options;
  options.repair = engine::Repair::full;
  engine::Context& context = reference_ ? *reference_ : alone_;
  if (changes) encode_chunks(context, prompt);
  Reference reference;
  engine::SessionRef session = open(context, prompt, options, false);
  reference.own = answer(context, *session, std::max(settings_.answer_tokens, settings_.own_tokens),
                         reference.ended);
  reference.answer = reference.own;
  if (reference.answer.size() > settings_.answer_tokens) {
    reference.answer.resize(settings_.answer_tokens);
  }
  const bool ended = reference.ended && reference.own.size() < settings_.answer_tokens;
  reference.rows = reference.answer.size() + (ended ? 1 : 0);
  if (changes) {
    const auto count =
        static_cast<size_t>(static_cast<double>(chunk_tokens(prompt)) * kCacheBlendShare);
    reference.most_changed = most_changed(context, *session, count);
  }
  context.close_session(*session);
  session = open(context, prompt, options, false);
  reference.logits = context.evaluate(*session, false);
  const std::vector<float> rest = rest_of_rows(context, *session, reference);
  reference.logits.insert(reference.logits.end(), rest.begin(), rest.end());
  context.close_session(*session);
  return reference;
}

engine::SessionOptions Runner::options_of(const Method& method, const Reference& reference) const {
  engine::SessionOptions options;
  options.repair = method.repair;
  options.head_tokens = method.head_tokens ? method.head_tokens : settings_.head_tokens;
  options.select_share = settings_.select_share;
  options.select_layers = settings_.select_layers;
  if (method.key_change) options.chosen = reference.most_changed;
  return options;
}

Outcome Runner::measure(const Method& method, const Prompt& prompt, const Reference& reference) {
  using Clock = std::chrono::steady_clock;
  engine::Context& context = method.alone ? alone_ : primed_;
  engine::ContextProbe(context).forget_prefix_runs();
  const engine::SessionOptions options = options_of(method, reference);
  engine::SessionRef session = open(context, prompt, options, method.anchor_text);

  Outcome outcome;
  const Clock::time_point start = Clock::now();
  std::vector<float> logits = context.evaluate(*session, false);
  const std::chrono::duration<double, std::milli> taken = Clock::now() - start;
  const engine::Report report = context.report(*session);
  const auto chunks = static_cast<double>(chunk_tokens(prompt));
  uint64_t recomputed = report.tokens_repaired;
  if (method.repair == engine::Repair::full) {
    recomputed = report.tokens_computed - prompt.question.size();
    if (method.anchor_text) recomputed -= encode(kAnchor, true).size();
  }
  outcome.recomputed = static_cast<double>(recomputed) / chunks;
  outcome.ttft_ms = taken.count();
  if (method.key_change) {
    // Its first two layers are computed for every token, to choose by; that is not in the time.
    const double layers = model_->hyperparameters().layers;
    outcome.recomputed = (2 + (layers - 2) * outcome.recomputed) / layers;
    outcome.ttft_ms.reset();
  }
  count_bytes(context, *session, method.accounting, outcome);

  const std::vector<float> rest = rest_of_rows(context, *session, reference);
  logits.insert(logits.end(), rest.begin(), rest.end());
  compare(reference, logits, outcome);
  if (settings_.own_tokens > 0) {
    const Tokens own =
        own_answer(context, session, method, prompt, reference, outcome.agreement == 1);
    outcome.length_ratio = static_cast<double>(own.size()) /
                           static_cast<double>(std::max<size_t>(reference.own.size(), 1));
    if (!prompt.wanted.empty()) {
      const auto found = [&](const Tokens& tokens) {
        return model_->tokenizer().decode(tokens, false).find(prompt.wanted) != std::string::npos;
      };
      outcome.hit = found(own);
      outcome.full_hit = found(reference.own);
    }
  }
  context.close_session(*session);
  return outcome;
}

void Runner::compare(const Reference& reference, std::span<const float> logits,
                     Outcome& outcome) const {
  const size_t vocabulary = model_->hyperparameters().vocabulary;
  size_t agreeing = 0;
  for (size_t r = 0; r < reference.rows; ++r) {
    const auto expected = std::span(reference.logits).subspan(r * vocabulary, vocabulary);
    const auto ours = logits.subspan(r * vocabulary, vocabulary);
    outcome.kl.push_back(engine::divergence(expected, ours));
    agreeing += engine::likeliest(expected) == engine::likeliest(ours);
  }
  outcome.agreement = static_cast<double>(agreeing) / static_cast<double>(reference.rows);
}

// KV of the prompt, whole pages: what other prompts with the same chunks use too, and what is this
// session's own.
void Runner::count_bytes(engine::Context& context, const engine::SessionState& session,
                         Accounting accounting, Outcome& outcome) const {
  const engine::ContextProbe probe(context);
  uint64_t shared = 0, own = 0;
  for (const engine::Segment& segment : session.segments) {
    (segment.computed_here() ? own : shared) += segment.span.blocks.size();
  }
  if (accounting == Accounting::copies) {
    shared = 0;
    own = probe.blocks_for(session.tokens);
  }
  outcome.bytes_shared = shared * probe.block_bytes();
  outcome.bytes_private = own * probe.block_bytes();
}

// The method's own greedy answer. `agrees`: all tokens compared were its own choice too, and
// `session` holds all of them but the last; then the answer goes on from there.
Tokens Runner::own_answer(engine::Context& context, engine::SessionRef session,
                          const Method& method, const Prompt& prompt, const Reference& reference,
                          bool agrees) {
  bool ended = false;
  if (!agrees) {
    session = open(context, prompt, options_of(method, reference), method.anchor_text);
    const Tokens own = answer(context, *session, settings_.own_tokens, ended);
    context.close_session(*session);
    return own;
  }
  Tokens own = reference.answer;
  if (own.size() > settings_.own_tokens) own.resize(settings_.own_tokens);
  const bool whole = reference.rows > own.size();  // that it ends there was compared too
  if (whole || own.size() == settings_.own_tokens) return own;
  context.add_tokens(*session, std::span(own).last(1));
  const uint32_t left = settings_.own_tokens - static_cast<uint32_t>(own.size());
  const Tokens rest = answer(context, *session, left, ended);
  own.insert(own.end(), rest.begin(), rest.end());
  return own;
}

}  // namespace tessera::quality
