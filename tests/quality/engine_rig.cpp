#include "tests/quality/engine_rig.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/engine/divergence.hpp"

namespace tessera::test {

ModelRef load_model(const std::string& path, MathMode math) {
  model::LoadOptions options;
  options.device = "cpu";
  options.math = math;
  return std::make_shared<const model::Model>(path, options);
}

engine::ContextOptions exact_options() {
  engine::ContextOptions options;
  options.kv_type = KvType::f32;
  options.kv_budget = 64 << 20;
  options.threads = 2;
  return options;
}

EngineRig::EngineRig(ModelRef model, const engine::ContextOptions& options)
    : context_(std::move(model), options) {}

engine::SessionRef EngineRig::open(const std::vector<Piece>& pieces, engine::Repair repair,
                                   bool anchor) {
  engine::SessionOptions options;
  options.repair = repair;
  return open(pieces, options, anchor);
}

engine::SessionRef EngineRig::open(const std::vector<Piece>& pieces,
                                   const engine::SessionOptions& options, bool anchor) {
  engine::SessionRef session = context_.create_session(options);
  if (anchor) context_.add_anchor(*session);
  for (const Piece& piece : pieces) {
    if (piece.chunk) {
      context_.add_chunk(*session, context_.create_chunk(piece.tokens, false));
    } else {
      context_.add_tokens(*session, piece.tokens);
    }
  }
  return session;
}

std::vector<float> EngineRig::logits(const Tokens& tokens, bool all) {
  const engine::SessionRef session = open({{tokens}}, engine::Repair::none, false);
  std::vector<float> rows = context_.evaluate(*session, all);
  context_.close_session(*session);
  return rows;
}

std::vector<float> EngineRig::full_repair(const std::vector<Piece>& pieces) {
  const engine::SessionRef session = open(pieces, engine::Repair::full, false);
  std::vector<float> rows = context_.evaluate(*session, true);
  context_.close_session(*session);
  return rows;
}

std::vector<float> EngineRig::behind(const std::vector<Piece>& pieces, const Tokens& question,
                                     engine::Repair repair, bool anchor) {
  engine::SessionOptions options;
  options.repair = repair;
  return behind(pieces, question, options, anchor);
}

std::vector<float> EngineRig::behind(const std::vector<Piece>& pieces, const Tokens& question,
                                     const engine::SessionOptions& options, bool anchor,
                                     engine::Report* report, std::vector<uint32_t>* chosen) {
  const engine::SessionRef session = open(pieces, options, anchor);
  context_.add_tokens(*session, std::span(question).first(1));
  std::vector<float> rows = context_.evaluate(*session, false);
  if (report) *report = context_.report(*session);
  for (const engine::Segment& segment : session->segments) {
    if (!chosen || !segment.overlay()) continue;
    chosen->assign(segment.span.positions.begin(), segment.span.positions.end());
  }
  context_.add_tokens(*session, std::span(question).subspan(1));
  const std::vector<float> rest = context_.evaluate(*session, true);
  rows.insert(rows.end(), rest.begin(), rest.end());
  context_.close_session(*session);
  return rows;
}

std::vector<EngineRig::Answer> EngineRig::answers(const std::vector<std::vector<Piece>>& sessions,
                                                  uint32_t count, engine::Repair repair) {
  engine::GenerateOptions options;
  options.max_tokens = count;
  options.ignore_end = true;
  std::vector<engine::SessionRef> opened;
  for (const std::vector<Piece>& pieces : sessions) {
    opened.push_back(open(pieces, repair, false));
    context_.generate(*opened.back(), options);
  }
  std::vector<Answer> all;
  for (const engine::SessionRef& session : opened) {
    engine::Event event;
    do {
      context_.next(*session, -1, event);
      if (event.kind == engine::EventKind::failed) fail(event.status, event.text);
    } while (event.kind != engine::EventKind::done);
    all.push_back({context_.tokens(*session), context_.evaluate(*session, false)});
    context_.close_session(*session);
  }
  return all;
}

double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size() || a.empty()) return kInfinity;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    if (std::isnan(difference)) return kInfinity;
    largest = std::max(largest, difference);
  }
  return largest;
}

double max_magnitude(const std::vector<float>& a) {
  double largest = 0;
  for (const float value : a) largest = std::max(largest, std::abs(double{value}));
  return largest;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double mean_divergence(std::span<const float> expected, std::span<const float> ours,
                       size_t vocabulary) {
  const size_t rows = expected.size() / vocabulary;
  double sum = 0;
  for (size_t r = 0; r < rows; ++r) {
    sum += engine::divergence(expected.subspan(r * vocabulary, vocabulary),
                              ours.subspan(r * vocabulary, vocabulary));
  }
  return sum / static_cast<double>(rows);
}

}  // namespace tessera::test
