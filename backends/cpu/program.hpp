// A compiled graph: a list of ops that all threads of a step walk together.
#pragma once

#include <memory>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/op.hpp"

namespace tessera::cpu {

class CpuProgram final : public Program {
 public:
  // Throws invalid_argument, out_of_host_memory.
  CpuProgram(const Graph& graph, CpuPages& pages, const Kernels& kernels,
             const ProgramOptions& options);

  void plan(const Step& step) override;
  // Computes the step on this thread and the pool's.
  void submit() override;
  void wait(StepResult& result) override;
  bool stoppable() const override { return true; }
  void stop() noexcept override { team_.stop(); }

 private:
  void compute(uint32_t thread);

  enum class State { idle, planned, submitted };

  CpuPages& pages_;
  uint32_t threads_;
  Team team_;
  uint32_t vocabulary_;
  Values values_;
  std::vector<std::unique_ptr<CompiledOp>> ops_;
  std::unique_ptr<Plan> plan_;
  HostMemory shared_;
  std::vector<HostMemory> local_;  // of threads
  StepResult result_;
  State state_ = State::idle;
};

}  // namespace tessera::cpu
