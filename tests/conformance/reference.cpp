#include "tests/conformance/reference.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/fuzz/quantise.hpp"

namespace tessera::test {
namespace {

const ReferenceWeight& reference(const Weight* weight) {
  return dynamic_cast<const ReferenceWeight&>(*weight);
}

std::vector<double> times(const std::vector<double>& x, const Weight* weight) {
  const ReferenceWeight& w = reference(weight);
  std::vector<double> out(w.desc().rows, 0.0);
  for (uint32_t n = 0; n < w.desc().rows; ++n) {
    for (uint32_t k = 0; k < w.desc().columns; ++k) out[n] += x[k] * w.at(n, k);
  }
  return out;
}

std::vector<double> rms_norm(const std::vector<double>& x, const Weight* norm, double epsilon) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  std::vector<double> out(x);
  for (uint32_t i = 0; i < x.size(); ++i) out[i] *= scale * reference(norm).at(0, i);
  return out;
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}

std::vector<double> head_of(const std::vector<double>& row, uint32_t head, uint32_t head_dim) {
  const auto begin = row.begin() + static_cast<ptrdiff_t>(size_t{head} * head_dim);
  return {begin, begin + head_dim};
}

}  // namespace

std::vector<ReferenceLogits> Reference::run(const Step& step) {
  step_ = &step;
  values_.assign(graph_.widths.size(), {});
  results_.clear();
  masses_.clear();
  for (const MassRequest& request : step.mass_requests) {
    const SequenceEntry& sequence = step.sequences[request.sequence];
    size_t slots = 0;
    for (uint32_t i = 0; i < sequence.span_count; ++i) {
      slots += step.spans[sequence.first_span + i].slots;
    }
    masses_.emplace_back(slots, 0.0);
  }
  for (const Op& op : graph_.ops) std::visit([this](const auto& o) { apply(o); }, op);
  return std::move(results_);
}

void Reference::apply(const Embed& op) {
  Matrix out;
  for (const int32_t token : step_->tokens) {
    Row row(graph_.widths[op.out]);
    for (uint32_t i = 0; i < row.size(); ++i) {
      row[i] = reference(op.table).at(static_cast<uint32_t>(token), i) * double{op.scale};
    }
    out.push_back(row);
  }
  values_[op.out] = out;
}

void Reference::apply(const NormQkv& op) {
  const AttentionShape& s = op.shape;
  const uint32_t group = group_of(s.layer);
  Matrix out;
  for (uint32_t r = 0; r < step_->rows(); ++r) {
    const Row x = rms_norm(values_[op.in][r], op.norm, op.epsilon);
    out.push_back(times(x, op.wq));
    const Row k = times(x, op.wk), v = times(x, op.wv);
    const uint32_t page = step_->page_tables[group][step_->store_entries[r]];
    for (uint32_t h = 0; h < s.kv_heads; ++h) {
      Row key = head_of(k, h, s.head_dim);
      if (s.key_form == KeyForm::local) {
        key = rotated(key, graph_.ropes[s.rope], step_->key_positions[r]);
      }
      kv_[{s.layer, page, step_->store_slots[r], h}] = {stored(key),
                                                        stored(head_of(v, h, s.head_dim))};
    }
  }
  values_[op.out] = out;
}

// What a row sees of its sequence, with softmax weights for scores.
std::vector<Reference::Seen> Reference::look(const AttentionShape& s, float scale, Value in,
                                             uint32_t row, uint32_t head) const {
  const uint32_t group = group_of(s.layer), p = layout_.page_slots;
  const int64_t window = layout_.groups[group].window;
  const Rope& rope = graph_.ropes[s.rope];
  const int64_t position = step_->positions[row];
  const Row q = head_of(values_[in][row], head, s.head_dim);
  const SequenceEntry& sequence = step_->sequences[step_->sequence_of[row]];
  std::vector<Seen> seen;
  size_t first = 0;
  for (uint32_t i = 0; i < sequence.span_count; ++i) {
    const SpanEntry& span = step_->spans[sequence.first_span + i];
    const bool local = s.key_form == KeyForm::local;
    const Row turned =
        rotated(q, rope, static_cast<double>(position - (local ? span.frame_start : 0)));
    for (uint32_t slot = 0; slot < span.slots; ++slot) {
      const uint32_t entry = span.first_entry + slot / p;
      const int64_t at = span.first_position == kNoPositions
                             ? int64_t{span.logical_start} + slot
                             : step_->slot_positions[span.first_position + slot];
      if (!(step_->masks[entry] >> (slot % p) & 1)) continue;
      if (at > position || (window > 0 && at <= position - window)) continue;
      const uint32_t page = step_->page_tables[group][entry];
      auto it = kv_.find({s.layer, page, slot % p, head / (s.heads / s.kv_heads)});
      const Row zero(s.head_dim, 0.0);
      const auto [key, value] = it == kv_.end() ? std::pair(zero, zero) : it->second;
      const Row turned_key = local ? key : rotated(key, rope, static_cast<double>(at));
      const double score =
          std::inner_product(turned.begin(), turned.end(), turned_key.begin(), 0.0);
      seen.push_back({first + slot, score * double{scale}, value});
    }
    first += span.slots;
  }
  double largest = -INFINITY, total = 0;
  for (const Seen& x : seen) largest = std::max(largest, x.score);
  for (Seen& x : seen) total += x.score = std::exp(x.score - largest);
  for (Seen& x : seen) x.score /= total;
  return seen;
}

void Reference::apply(const SpanAttention& op) {
  const AttentionShape& s = op.shape;
  Matrix out;
  for (uint32_t r = 0; r < step_->rows(); ++r) {
    Row row;
    for (uint32_t h = 0; h < s.heads; ++h) {
      Row sum(s.head_dim, 0.0);
      for (const Seen& x : look(s, op.scale, op.in, r, h)) {
        for (uint32_t d = 0; d < s.head_dim; ++d) sum[d] += x.score * x.value[d];
      }
      row.insert(row.end(), sum.begin(), sum.end());
    }
    out.push_back(row);
  }
  values_[op.out] = out;
}

void Reference::apply(const AttentionMass& op) {
  for (size_t i = 0; i < step_->mass_requests.size(); ++i) {
    const MassRequest& request = step_->mass_requests[i];
    if (op.shape.layer < request.first_layer) continue;
    for (uint32_t r = request.first_row; r < request.first_row + request.rows; ++r) {
      for (uint32_t h = 0; h < op.shape.heads; ++h) {
        for (const Seen& x : look(op.shape, op.scale, op.in, r, h)) masses_[i][x.slot] += x.score;
      }
    }
  }
}

void Reference::apply(const LinearResidual& op) {
  Matrix out;
  for (uint32_t r = 0; r < step_->rows(); ++r) {
    Row row = times(values_[op.in][r], op.w);
    for (size_t i = 0; i < row.size(); ++i) row[i] += values_[op.residual][r][i];
    out.push_back(row);
  }
  values_[op.out] = out;
}

void Reference::apply(const NormGatedFfn& op) {
  Matrix out;
  for (uint32_t r = 0; r < step_->rows(); ++r) {
    const Row x = rms_norm(values_[op.in][r], op.norm, op.epsilon);
    Row gate = times(x, op.gate);
    const Row up = times(x, op.up);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = silu(gate[i]) * up[i];
    out.push_back(gate);
  }
  values_[op.out] = out;
}

void Reference::apply(const Logits& op) {
  for (const LogitsRequest& request : step_->logits) {
    ReferenceLogits result;
    Row l = times(rms_norm(values_[op.in][request.row], op.norm, op.epsilon), op.head);
    for (uint32_t i = 0; i < request.adjustment_count; ++i) {
      const LogitAdjustment& a = step_->adjustments[request.first_adjustment + i];
      double& x = l[static_cast<size_t>(a.token)];
      x = (x > 0 ? x / double{a.penalty} : x * double{a.penalty}) - double{a.subtract};
    }
    for (uint32_t t = 0; t < l.size() && request.first_mask_word != UINT32_MAX; ++t) {
      const uint32_t word = step_->token_masks[request.first_mask_word + t / 32];
      if (!(word >> (t % 32) & 1)) l[t] = -INFINITY;
    }
    const double largest = *std::max_element(l.begin(), l.end());
    double total = 0;
    for (const double x : l) total += largest == -INFINITY ? 0 : std::exp(x - largest);
    result.log_sum_exp = largest == -INFINITY ? largest : largest + std::log(total);
    for (uint32_t t = 0; t < l.size(); ++t) result.top.emplace_back(static_cast<int>(t), l[t]);
    std::stable_sort(result.top.begin(), result.top.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    result.top.resize(request.top_k);
    if (request.temperature > 0) {
      for (double& x : l) {
        x = std::exp((x - largest) / double{request.temperature});
        result.weight_sum += x;
      }
    }
    result.full = std::move(l);
    results_.push_back(std::move(result));
  }
}

Reference::Row Reference::rotated(Row head, const Rope& rope, double position) const {
  const size_t n = rope.frequencies.size();
  for (size_t i = 0; i < n; ++i) {
    const bool halves = rope.pairing == RopePairing::halves;
    double& a = head[halves ? i : 2 * i];
    double& b = head[halves ? i + n : 2 * i + 1];
    const double angle = position * rope.frequencies[i];
    const double x = a * std::cos(angle) - b * std::sin(angle);
    const double y = a * std::sin(angle) + b * std::cos(angle);
    a = x * rope.magnitude;
    b = y * rope.magnitude;
  }
  return head;
}

Reference::Row Reference::stored(Row head) const {
  switch (layout_.type) {
    case KvType::f32:
      break;
    case KvType::f16:
      for (double& x : head) x = half_to_float(float_to_half(static_cast<float>(x)));
      break;
    case KvType::q8_0:
      for (size_t b = 0; b < head.size(); b += 32) {
        double largest = 0;
        for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::abs(head[i]));
        const double scale = half_to_float(float_to_half(static_cast<float>(largest / 127)));
        for (size_t i = b; i < b + 32; ++i) {
          head[i] =
              scale == 0 ? 0 : scale * std::clamp(std::nearbyint(head[i] / scale), -127., 127.);
        }
      }
      break;
  }
  return head;
}

uint32_t Reference::group_of(uint32_t layer) const {
  for (uint32_t g = 0; g < layout_.groups.size(); ++g) {
    for (const uint32_t l : layout_.groups[g].layers) {
      if (l == layer) return g;
    }
  }
  fail(Status::internal, "the layout has no such layer");
}

}  // namespace tessera::test
