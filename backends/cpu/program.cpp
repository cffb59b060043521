#include "backends/cpu/program.hpp"

#include <algorithm>
#include <utility>

namespace tessera::cpu {
namespace {

constexpr uint32_t kMaxRows = 1 << 16;
constexpr uint32_t kMaxThreads = 1024;

const ProgramOptions& checked(const Graph& graph, const ProgramOptions& options) {
  if (options.max_rows == 0 || options.max_rows > kMaxRows) {
    fail(Status::invalid_argument, "ProgramOptions::max_rows is " +
                                       std::to_string(options.max_rows) + "; it must be 1 to " +
                                       std::to_string(kMaxRows));
  }
  if (options.threads == 0 || options.threads > kMaxThreads) {
    fail(Status::invalid_argument, "ProgramOptions::threads is " + std::to_string(options.threads) +
                                       "; it must be 1 to " + std::to_string(kMaxThreads));
  }
  if (graph.vocabulary == 0 || graph.vocabulary > INT32_MAX) {
    fail(Status::invalid_argument, "Graph::vocabulary is " + std::to_string(graph.vocabulary) +
                                       "; it must be 1 to 2147483647");
  }
  if (graph.ops.empty() || !std::holds_alternative<Embed>(graph.ops.front()) ||
      !std::holds_alternative<Logits>(graph.ops.back())) {
    fail(Status::invalid_argument, "Graph::ops must begin with Embed and end with Logits");
  }
  return options;
}

constexpr const char* kOpNames[] = {"Embed",         "NormQkv",        "SpanAttention",
                                    "AttentionMass", "LinearResidual", "NormGatedFfn",
                                    "Logits"};
static_assert(std::size(kOpNames) == std::variant_size_v<Op>);

}  // namespace

CpuProgram::CpuProgram(const Graph& graph, CpuPages& pages, const Kernels& kernels,
                       const ProgramOptions& options)
    : pages_(pages),
      threads_(checked(graph, options).threads),
      team_(threads_),
      vocabulary_(graph.vocabulary),
      values_(graph, options.max_rows) {
  Compiler compiler(graph, values_, pages, kernels, options);
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    compiler.begin(i, kOpNames[graph.ops[i].index()]);
    ops_.push_back(
        std::visit([&](const auto& op) { return compile_op(op, compiler); }, graph.ops[i]));
  }
  StepLimits limits = {graph.vocabulary, options.max_rows, pages.layout().page_slots,
                       pages.page_counts()};
  plan_ = std::make_unique<Plan>(graph, std::move(limits), compiler.rope_uses, threads_);
  const auto bytes = [](uint64_t floats) {
    return checked_multiply(floats, sizeof(float), "scratch");
  };
  shared_ = HostMemory(bytes(compiler.shared_floats), "scratch");
  for (uint32_t t = 0; t < threads_; ++t) {
    local_.emplace_back(bytes(compiler.local_floats), "scratch");
  }
  pages_.pool().reserve(threads_);
}

void CpuProgram::plan(const Step& step) {
  if (state_ == State::submitted) {
    fail(Status::internal, "Program::plan called before the submitted step was waited for");
  }
  state_ = State::idle;
  plan_->set(step);
  uint64_t floats = 0;
  for (const std::unique_ptr<CompiledOp>& op : ops_) {
    floats = std::max(floats, op->shared_floats(*plan_));
  }
  if (floats * sizeof(float) > shared_.size()) {
    shared_ = HostMemory(floats * sizeof(float), "scratch of attention");
  }
  result_ = {};
  result_.logits.resize(step.logits.size());
  for (size_t i = 0; i < step.logits.size(); ++i) {
    result_.logits[i].top.reserve(step.logits[i].top_k);
    if (step.logits[i].full) result_.logits[i].full.resize(vocabulary_);
  }
  for (const MassRequest& request : step.mass_requests) {
    const SequenceEntry& sequence = step.sequences[request.sequence];
    uint64_t slots = 0;
    for (const SpanEntry& span :
         std::span(step.spans).subspan(sequence.first_span, sequence.span_count)) {
      slots += span.slots;
    }
    result_.masses.emplace_back(slots);
  }
  state_ = State::planned;
}

void CpuProgram::submit() {
  if (state_ != State::planned) {
    fail(Status::internal, "Program::submit called without a planned step");
  }
  pages_.pool().run(
      threads_,
      [](void* program, uint32_t thread) { static_cast<CpuProgram*>(program)->compute(thread); },
      this);
  state_ = State::submitted;
}

void CpuProgram::compute(uint32_t thread) {
  Worker worker = {*plan_, {team_, thread}, result_, shared_.floats(), local_[thread].floats()};
  for (const std::unique_ptr<CompiledOp>& op : ops_) {
    if (!op->idle(*plan_)) op->run(worker);
  }
}

void CpuProgram::wait(StepResult& result) {
  if (state_ != State::submitted) {
    fail(Status::internal, "Program::wait called without a submitted step");
  }
  const bool stopped = team_.stopped();
  team_.resume();
  result = std::exchange(result_, {});
  if (stopped) result = {.stopped = true};
  state_ = State::idle;
}

}  // namespace tessera::cpu
