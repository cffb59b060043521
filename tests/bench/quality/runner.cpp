#include "tests/bench/quality/runner.hpp"

#include <algorithm>

#include "tests/bench/quality/key_change.hpp"
#include "tests/bench/quality/measures.hpp"

namespace tessera::quality {
namespace {

constexpr uint32_t kPage = 16;

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

}  // namespace

Runner::Runner(std::shared_ptr<const model::Model> model, const Settings& settings,
               const std::string& primer)
    : model_(std::move(model)),
      settings_(settings),
      primed_(model_, context_options(settings, primer)),
      alone_(model_, context_options(settings, "")) {}

Tokens Runner::encode(const std::string& text, bool special) const {
  return model_->tokenizer().encode(text, special);
}

std::vector<Outcome> Runner::run(const Prompt& prompt, const std::vector<const Method*>& methods) {
  const bool changes = std::ranges::any_of(methods, [](const Method* m) { return m->cacheblend; });
  const Reference reference = refer(prompt, changes);
  std::vector<Outcome> outcomes;
  for (const Method* method : methods) outcomes.push_back(measure(*method, prompt, reference));
  return outcomes;
}

// A session of the prompt, its chunks ready where they are taken as encoded.
engine::SessionRef Runner::open(engine::Context& context, const Prompt& prompt,
                                const engine::SessionOptions& options, bool anchor_text) {
  engine::SessionRef session = context.create_session(options);
  if (anchor_text) {
    context.add_tokens(*session, encode(kAnchor, true));
  } else {
    context.add_anchor(*session);
  }
  for (const Tokens& tokens : prompt.chunks) {
    const bool full = options.repair == engine::Repair::full;
    const kv::CanonicalRef chunk = context.create_chunk(tokens, full);
    const bool never = false;
    if (!full) context.wait_chunk(chunk, never, -1);
    context.add_chunk(*session, chunk);
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

// Logits behind the question and behind each token of the reference's answer but the last, or all
// where the model ended its turn behind it.
std::vector<float> Runner::rows(engine::Context& context, engine::SessionState& session,
                                const Reference& reference) {
  std::vector<float> logits = context.evaluate(session, false);
  if (reference.rows == 1) return logits;
  context.add_tokens(session, std::span(reference.answer).first(reference.rows - 1));
  const std::vector<float> rest = context.evaluate(session, true);
  logits.insert(logits.end(), rest.begin(), rest.end());
  return logits;
}

Runner::Reference Runner::refer(const Prompt& prompt, bool changes) {
  engine::SessionOptions options;
  options.repair = engine::Repair::full;
  engine::Context& context = changes ? alone_ : primed_;
  if (changes) {
    for (const Tokens& tokens : prompt.chunks) {
      const bool never = false;
      context.wait_chunk(context.create_chunk(tokens, true), never, -1);
    }
  }
  Reference reference;
  engine::SessionRef session = open(context, prompt, options, false);
  bool ended = false;
  reference.answer = answer(context, *session, settings_.answer_tokens, ended);
  reference.rows = reference.answer.size() + (ended ? 1 : 0);
  if (changes) {
    const auto count =
        static_cast<size_t>(static_cast<double>(chunk_tokens(prompt)) * kCacheBlendShare);
    reference.most_changed = most_changed(context, *session, count);
  }
  context.close_session(*session);
  session = open(context, prompt, options, false);
  reference.logits = rows(context, *session, reference);
  if (settings_.own_tokens > 0) {
    context.close_session(*session);
    session = open(context, prompt, options, false);
    reference.own_length = answer(context, *session, settings_.own_tokens, ended).size();
  }
  context.close_session(*session);
  return reference;
}

engine::SessionOptions Runner::options_of(const Method& method, const Reference& reference) const {
  engine::SessionOptions options;
  options.repair = method.repair;
  options.head_tokens = method.alone ? kPage : settings_.head_tokens;
  if (method.whole_page) options.head_tokens = kPage;
  options.select_share = settings_.select_share;
  options.select_layers = settings_.select_layers;
  if (method.cacheblend) options.chosen = reference.most_changed;
  return options;
}

Outcome Runner::measure(const Method& method, const Prompt& prompt, const Reference& reference) {
  engine::Context& context = method.alone ? alone_ : primed_;
  const engine::SessionOptions options = options_of(method, reference);
  Outcome outcome;
  // First the answer of its own: what is repaired is not there yet.
  engine::SessionRef session = open(context, prompt, options, method.anchor_text);
  bool ended = false;
  const Tokens own = answer(context, *session, std::max(1u, settings_.own_tokens), ended);
  const engine::Report report = context.report(*session);
  context.close_session(*session);
  const auto chunks = static_cast<double>(chunk_tokens(prompt));
  outcome.recomputed = method.repair == engine::Repair::full
                           ? 1
                           : static_cast<double>(report.tokens_repaired) / chunks;
  outcome.ttft_ms = static_cast<double>(report.first_token_us) / 1000;
  outcome.bytes_shared = static_cast<double>(report.bytes_shared);
  outcome.bytes_private = static_cast<double>(report.bytes_private);
  if (method.accounting == Accounting::copies) {
    outcome.bytes_private += outcome.bytes_shared;
    outcome.bytes_shared = 0;
  }
  if (method.cacheblend) {
    // Its first two layers are computed for every token, to choose by.
    const double layers = model_->hyperparameters().layers;
    outcome.recomputed = (2 + (layers - 2) * outcome.recomputed) / layers;
    outcome.ttft_ms = 0;  // the choice is not part of this time
  }
  if (settings_.own_tokens > 0) {
    outcome.length_ratio = static_cast<double>(own.size()) /
                           static_cast<double>(std::max<size_t>(reference.own_length, 1));
    outcome.found = !prompt.wanted.empty() &&
                    model_->tokenizer().decode(own, false).find(prompt.wanted) != std::string::npos;
  }

  session = open(context, prompt, options, method.anchor_text);
  const std::vector<float> logits = rows(context, *session, reference);
  context.close_session(*session);
  const size_t vocabulary = model_->hyperparameters().vocabulary;
  for (size_t r = 0; r < reference.rows; ++r) {
    const auto expected = std::span(reference.logits).subspan(r * vocabulary, vocabulary);
    const auto ours = std::span(logits).subspan(r * vocabulary, vocabulary);
    outcome.kl.push_back(divergence(expected, ours));
    outcome.agreement += argmax(expected) == argmax(ours);
  }
  outcome.agreement /= static_cast<double>(reference.rows);
  return outcome;
}

}  // namespace tessera::quality
