#include "tests/unit/remote/small_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace tessera::remote::test {
namespace {

constexpr uint32_t kWidth = 32;
constexpr uint32_t kHidden = 64;
constexpr uint32_t kHeads = 4;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kHeadDim = 8;
constexpr uint32_t kLayers = 2;
constexpr uint32_t kPageSlots = 16;
constexpr uint32_t kPages = 4;
constexpr uint32_t kMostRows = 16;

std::vector<uint8_t> random_weight(const WeightDesc& desc, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(desc.bytes());
  if (desc.type == DType::f32) {
    for (size_t at = 0; at < bytes.size(); at += 4) {
      const float value =
          (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * (desc.rows == 1 ? 2.0f : 0.5f);
      std::memcpy(&bytes[at], &value, 4);
    }
    return bytes;
  }
  // Q8_0: a block is a scale in f16, here 2^-8, and 32 signed bytes.
  for (size_t at = 0; at < bytes.size(); at += 34) {
    const uint16_t scale = 0x1c00;
    std::memcpy(&bytes[at], &scale, 2);
    for (size_t i = 2; i < 34; ++i) bytes[at + i] = static_cast<uint8_t>(random());
  }
  return bytes;
}

}  // namespace

SmallModel::SmallModel(Backend& backend) : backend_(backend) {
  graph_.vocabulary = kVocabulary;
  Rope rope;
  for (uint32_t i = 0; i < kHeadDim / 2; ++i) {
    rope.frequencies.push_back(std::pow(10000.0, -2.0 * i / kHeadDim));
  }
  graph_.ropes.push_back(rope);
  const Value x = graph_.add_value(kWidth);
  const Value q = graph_.add_value(kHeads * kHeadDim);
  const Value heads = graph_.add_value(kHeads * kHeadDim);
  const Value hidden = graph_.add_value(kHidden);
  graph_.ops.push_back(
      Embed{.table = load(kVocabulary, kWidth, DType::f32, kUseGather), .scale = 1.0f, .out = x});
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const AttentionShape shape{.layer = layer,
                               .heads = kHeads,
                               .kv_heads = kKvHeads,
                               .head_dim = kHeadDim,
                               .rope = 0,
                               .key_form = KeyForm::local};
    graph_.ops.push_back(NormQkv{.in = x,
                                 .norm = load(1, kWidth),
                                 .wq = load(kHeads * kHeadDim, kWidth, DType::q8_0),
                                 .wk = load(kKvHeads * kHeadDim, kWidth),
                                 .wv = load(kKvHeads * kHeadDim, kWidth),
                                 .epsilon = 1e-5f,
                                 .shape = shape,
                                 .out = q});
    graph_.ops.push_back(
        SpanAttention{.in = q, .scale = 1.0f / std::sqrt(8.0f), .shape = shape, .out = heads});
    graph_.ops.push_back(
        LinearResidual{.in = heads, .w = load(kWidth, kHeads * kHeadDim), .residual = x, .out = x});
    graph_.ops.push_back(NormGatedFfn{.in = x,
                                      .norm = load(1, kWidth),
                                      .gate = load(kHidden, kWidth, DType::q8_0),
                                      .up = load(kHidden, kWidth),
                                      .epsilon = 1e-5f,
                                      .activation = Activation::silu,
                                      .out = hidden});
    graph_.ops.push_back(
        LinearResidual{.in = hidden, .w = load(kWidth, kHidden), .residual = x, .out = x});
  }
  graph_.ops.push_back(Logits{
      .in = x, .norm = load(1, kWidth), .head = load(kVocabulary, kWidth), .epsilon = 1e-5f});
}

const Weight* SmallModel::load(uint32_t rows, uint32_t columns, DType type, uint32_t uses) {
  const auto seed = static_cast<uint32_t>(weights_.size());
  const WeightDesc desc{.name = "weight " + std::to_string(seed),
                        .type = type,
                        .rows = rows,
                        .columns = columns,
                        .uses = uses};
  const std::vector<uint8_t> bytes = random_weight(desc, seed);
  weights_.push_back(
      backend_.load_weight(desc, [&bytes](uint64_t offset, void* out, uint64_t size) {
        std::memcpy(out, bytes.data() + offset, size);
      }));
  return weights_.back().get();
}

KvLayout SmallModel::layout() {
  return {.type = KvType::f32,
          .page_slots = kPageSlots,
          .groups = {{.layers = {0, 1}, .kv_heads = kKvHeads, .head_dim = kHeadDim}}};
}

SmallSession::SmallSession(const SmallModel& model) : model_(model) {
  const uint32_t counts[] = {kPages};
  pages_ = model.backend().create_pages(SmallModel::layout(), counts);
  program_ = model.backend().compile(model.graph(), *pages_, {.max_rows = kMostRows, .threads = 1});
}

Step SmallSession::step(const std::vector<int32_t>& tokens) const {
  Step step;
  step.tokens = tokens;
  for (uint32_t row = 0; row < tokens.size(); ++row) {
    const int32_t position = length_ + static_cast<int32_t>(row);
    step.positions.push_back(position);
    step.key_positions.push_back(position);
    step.sequence_of.push_back(0);
    step.store_entries.push_back(static_cast<uint32_t>(position) / kPageSlots);
    step.store_slots.push_back(static_cast<uint32_t>(position) % kPageSlots);
  }
  const auto slots = static_cast<uint32_t>(length_ + static_cast<int32_t>(tokens.size()));
  step.sequences = {{.first_span = 0, .span_count = 1}};
  step.spans = {{.first_entry = 0, .slots = slots}};
  step.page_tables.resize(1);
  for (uint32_t entry = 0; entry * kPageSlots < slots; ++entry) {
    step.page_tables[0].push_back(kPages - 1 - entry);  // not in order, as pages are in life
    const uint32_t valid = std::min(kPageSlots, slots - entry * kPageSlots);
    step.masks.push_back((uint64_t{1} << valid) - 1);
  }
  step.logits = {{.row = static_cast<uint32_t>(tokens.size()) - 1, .top_k = 5, .full = true}};
  return step;
}

LogitsResult SmallSession::run(const std::vector<int32_t>& tokens) {
  {
    Step planned = step(tokens);
    program_->plan(planned);
    program_->submit();
    planned = Step();  // the program has its own copy
  }
  StepResult result;
  program_->wait(result);
  length_ += static_cast<int32_t>(tokens.size());
  return std::move(result.logits.at(0));
}

std::vector<LogitsResult> SmallSession::generate(uint32_t seed, uint32_t count) {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < 13; ++i) {
    tokens.push_back(static_cast<int32_t>((seed * 31 + i * i * 7 + 5) % kVocabulary));
  }
  std::vector<LogitsResult> results;
  for (uint32_t i = 0; i < count; ++i) {
    results.push_back(run(tokens));
    tokens = {results.back().top.at(0).token};
  }
  return results;
}

std::vector<uint8_t> SmallSession::page(uint32_t page) {
  std::vector<uint8_t> bytes(model_.backend().page_bytes(SmallModel::layout(), 0));
  pages_->read(0, page, bytes.data());
  return bytes;
}

bool same(const LogitsResult& a, const LogitsResult& b) {
  const auto same_top = [](const TokenLogit& x, const TokenLogit& y) {
    return x.token == y.token && std::memcmp(&x.logit, &y.logit, sizeof x.logit) == 0;
  };
  return std::equal(a.top.begin(), a.top.end(), b.top.begin(), b.top.end(), same_top) &&
         std::memcmp(&a.log_sum_exp, &b.log_sum_exp, sizeof a.log_sum_exp) == 0 &&
         a.full.size() == b.full.size() &&
         std::memcmp(a.full.data(), b.full.data(), a.full.size() * sizeof(float)) == 0;
}

bool same(const std::vector<LogitsResult>& a, const std::vector<LogitsResult>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const LogitsResult& x, const LogitsResult& y) { return same(x, y); });
}

}  // namespace tessera::remote::test
