// Logits of the requested rows: adjustments, mask, top-k, log-sum-exp.
#include <algorithm>
#include <cmath>

#include "backends/cpu/op.hpp"

namespace tessera::cpu {
namespace {

// Scratch for logits: requests beyond what fits are done in further chunks.
constexpr uint64_t kChunkBytes = 8 << 20;

// Larger logits first, then lower ids; a NaN counts as the smallest.
bool before(const TokenLogit& a, const TokenLogit& b) {
  const float x = std::isnan(a.logit) ? -INFINITY : a.logit;
  const float y = std::isnan(b.logit) ? -INFINITY : b.logit;
  return x != y ? x > y : a.token < b.token;
}

void adjust(const Step& step, const LogitsRequest& request, float* logits) {
  for (uint32_t i = 0; i < request.adjustment_count; ++i) {
    const LogitAdjustment& a = step.adjustments[size_t{request.first_adjustment} + i];
    float& l = logits[a.token];
    l = (l > 0 ? l / a.penalty : l * a.penalty) - a.subtract;
  }
}

void mask(const Step& step, const LogitsRequest& request, uint32_t vocabulary, float* logits) {
  if (request.first_mask_word == UINT32_MAX) return;
  const uint32_t* words = step.token_masks.data() + request.first_mask_word;
  for (uint32_t t = 0; t < vocabulary; ++t) {
    if (!(words[t / 32] >> (t % 32) & 1)) logits[t] = -INFINITY;
  }
}

// `top` has room for k. A heap whose root is the last of the k best so far; runs of tokens whose
// largest logit is no better are passed over.
void select(const Kernels& kernels, const float* logits, uint32_t vocabulary, uint32_t k,
            std::vector<TokenLogit>& top) {
  constexpr uint32_t kRun = 256;
  top.clear();
  if (k == 0) return;
  for (uint32_t first = 0; first < vocabulary; first += kRun) {
    const uint32_t end = std::min(first + kRun, vocabulary);
    if (top.size() == k) {
      const float largest = kernels.largest(logits + first, end - first);
      if (!before({static_cast<int32_t>(first), largest}, top.front())) continue;
    }
    for (uint32_t t = first; t < end; ++t) {
      const TokenLogit candidate = {static_cast<int32_t>(t), logits[t]};
      if (top.size() == k) {
        if (!before(candidate, top.front())) continue;
        std::pop_heap(top.begin(), top.end(), before);
        top.pop_back();
      }
      top.push_back(candidate);
      std::push_heap(top.begin(), top.end(), before);
    }
  }
  std::sort_heap(top.begin(), top.end(), before);
}

class LogitsOp final : public CompiledOp {
 public:
  LogitsOp(const Logits& op, Compiler& c)
      : kernels_(c.kernels),
        in_(c.values[op.in]),
        vocabulary_(c.graph.vocabulary),
        norm_(c.vector(op.norm, "norm", in_.width)),
        epsilon_(op.epsilon),
        head_(c.weight(op.head, "head", vocabulary_, in_.width), c.kernels, c.options.threads),
        quantiser_(c.kernels, {head_.form()}, in_.width) {
    c.check_positive(op.epsilon, "epsilon");
    const uint64_t fitting = kChunkBytes / (uint64_t{vocabulary_} * sizeof(float));
    chunk_ = static_cast<uint32_t>(std::clamp<uint64_t>(fitting, 1, c.options.max_rows));
    c.need_shared(uint64_t{chunk_} * (in_.stride + vocabulary_) + quantiser_.floats(chunk_));
    c.need_local(head_.tile_floats());
  }

  void run(Worker& worker) const override {
    const Step& step = worker.plan.step();
    PreparedRows x;
    x.x = {worker.shared, in_.stride, in_.width};
    const Matrix logits = {worker.shared + chunk_ * in_.stride, vocabulary_, vocabulary_};
    const uint32_t requests = static_cast<uint32_t>(step.logits.size());
    for (uint32_t first = 0; first < requests; first += chunk_) {
      const uint32_t count = std::min(chunk_, requests - first);
      quantiser_.place(logits.row(chunk_), count, x);
      worker.team.parallel(count, [&](uint32_t i) {
        kernels_.rms_norm(in_.row(step.logits[first + i].row), norm_.data(), epsilon_, in_.width,
                          x.x.row(i));
        quantiser_.write(x, i);
      });
      worker.team.parallel(head_.items(), [&](uint32_t item) {
        head_.compute(item, x, count, nullptr, logits, worker.local);
      });
      worker.team.parallel(count, [&](uint32_t i) {
        finish(step, step.logits[first + i], logits.row(i), worker.result.logits[first + i]);
      });
    }
  }

 private:
  void finish(const Step& step, const LogitsRequest& request, float* logits,
              LogitsResult& result) const {
    adjust(step, request, logits);
    mask(step, request, vocabulary_, logits);
    const float largest = kernels_.largest(logits, vocabulary_);
    const auto sum = [&](float scale, float* weights) {
      return kernels_.sum_exp(logits, vocabulary_, largest, scale, weights);
    };
    result.log_sum_exp = largest == -INFINITY
                             ? -INFINITY
                             : static_cast<float>(double{largest} + std::log(sum(1, nullptr)));
    select(kernels_, logits, vocabulary_, request.top_k, result.top);
    if (request.temperature > 0) {
      const float scale = std::min(1 / request.temperature, 1e30f);  // not infinite
      result.weight_sum =
          static_cast<float>(sum(scale, request.full ? result.full.data() : nullptr));
    } else if (request.full) {
      std::copy_n(logits, vocabulary_, result.full.data());
    }
  }

  const Kernels& kernels_;
  Matrix in_;
  uint32_t vocabulary_;
  std::vector<float> norm_;
  float epsilon_;
  Linear head_;
  RowQuantiser quantiser_;
  uint32_t chunk_;  // requests
};

}  // namespace

std::unique_ptr<CompiledOp> compile_op(const Logits& op, Compiler& c) {
  return std::make_unique<LogitsOp>(op, c);
}

}  // namespace tessera::cpu
