// What the ops share: how they are compiled, and how they run.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/kernels.hpp"
#include "backends/cpu/matmul.hpp"
#include "backends/cpu/pages.hpp"
#include "backends/cpu/plan.hpp"
#include "backends/cpu/prepared_rows.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "backends/cpu/values.hpp"
#include "backends/cpu/weight.hpp"

namespace tessera::cpu {

// One thread's view of a step.
struct Worker {
  const Plan& plan;
  Member team;
  StepResult& result;  // sized by the plan
  float* shared;       // scratch of all threads, for the op that runs
  float* local;        // scratch of this thread
};

class CompiledOp {
 public:
  virtual ~CompiledOp() = default;
  // Called by every thread of the team; its last act is a Member::parallel. Does not throw.
  virtual void run(Worker& worker) const = 0;
  // Whether the step asks for nothing of it: then it is not run.
  virtual bool idle(const Plan&) const { return false; }
  // Floats of shared scratch that a step needs, where that depends on the step.
  virtual uint64_t shared_floats(const Plan&) const { return 0; }
};

// What the ops of one program are compiled with; lives while they are. The checks throw
// invalid_argument and name the op and the field.
class Compiler {
 public:
  Compiler(const Graph& graph, const Values& values, CpuPages& pages, const Kernels& kernels,
           const ProgramOptions& options);

  const Graph& graph;
  CpuPages& pages;
  const Kernels& kernels;
  const ProgramOptions options;
  const Values& values;

  // Floats that the ops need at most.
  uint64_t shared_floats = 0;
  uint64_t local_floats = 0;
  void need_shared(uint64_t floats) { shared_floats = std::max(shared_floats, floats); }
  void need_local(uint64_t floats) { local_floats = std::max(local_floats, floats); }

  std::vector<RopeUse> rope_uses;

  // Sets the op that messages name.
  void begin(size_t index, const char* op);
  [[noreturn]] void fail_at(const std::string& field, const std::string& why) const;

  // The weight, of this shape.
  const CpuWeight& weight(const Weight* weight, const char* field, uint32_t rows,
                          uint32_t columns) const;
  // A weight of one row as fp32, padded.
  std::vector<float> vector(const Weight* weight, const char* field, uint32_t width) const;
  // Checks the shape against graph and pages.
  void check_attention(const AttentionShape& shape, uint32_t width) const;
  void check_width(Value value, const char* field, uint32_t width) const;
  void check_positive(float value, const char* field) const;

 private:
  std::string op_;
};

// Each in the file of its op.
std::unique_ptr<CompiledOp> compile_op(const Embed& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const NormQkv& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const SpanAttention& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const AttentionMass& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const LinearResidual& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const NormGatedFfn& op, Compiler& compiler);
std::unique_ptr<CompiledOp> compile_op(const Logits& op, Compiler& compiler);

}  // namespace tessera::cpu
