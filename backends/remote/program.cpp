#include <utility>

#include "backends/remote/faults.hpp"
#include "backends/remote/ledger.hpp"
#include "backends/remote/objects.hpp"

namespace tessera::remote {
namespace {

void lose_if_asked(Connection& connection) {
  if (device_call_loses()) connection.lose("remote: device lost, as injected");
  connection.check();
}

}  // namespace

RemoteProgram::RemoteProgram(std::shared_ptr<Device> device, std::shared_ptr<PageState> pages,
                             const Graph& graph, const ProgramOptions& options)
    : counted_(std::move(device), {.programs = 1}), pages_(std::move(pages)) {
  id_ = compile(graph, options);
  for (const auto& readers : weights_) ++*readers;
  ++pages_->programs;
}

uint64_t RemoteProgram::compile(const Graph& graph, const ProgramOptions& options) {
  const Exclusive exclusive(*pages_, "compile");
  counted_.connection().check();
  const auto weight_id = [this](const Weight* weight) {
    const auto* remote = dynamic_cast<const RemoteWeight*>(weight);
    if (remote == nullptr || &remote->counted().device() != &counted_.device()) {
      fail(Status::invalid_argument,
           weight == nullptr ? "graph: an op has no weight"
                             : "graph: weight '" + weight->desc().name +
                                   "' was loaded by another backend; load it with this one");
    }
    weights_.push_back(remote->readers());
    return remote->id();
  };
  return counted_.connection().call_pages(pages_->id, Compile{.graph = graph, .options = options},
                                          weight_id);
}

RemoteProgram::~RemoteProgram() {
  if (pages_->busy.load()) ledger().breach("a program is destroyed while a call on it runs");
  if (stage_ == Stage::running) --pages_->steps;
  --pages_->programs;
  for (const auto& readers : weights_) --*readers;
  try {
    // Behind a step that is under way, for it waits in the same lane.
    counted_.connection().call_pages(pages_->id, DropProgram{id_}, {}, Connection::kDropPatience);
  } catch (...) {  // lost, and the program with it
  }
}

void RemoteProgram::plan(const Step& step) {
  const Exclusive exclusive(*pages_, "plan");
  counted_.connection().check();
  if (stage_ == Stage::running) fail_breach("plan before the wait for the step before");
  stage_ = Stage::idle;
  counted_.connection().call_pages(pages_->id, Plan{.program = id_, .step = step});
  stage_ = Stage::planned;
}

void RemoteProgram::submit() {
  const Exclusive exclusive(*pages_, "submit");
  lose_if_asked(counted_.connection());
  if (stage_ != Stage::planned) fail_breach("submit without a plan of its own");
  stage_ = Stage::idle;
  const RunStep run{.program = id_, .delay_us = next_delay_us(), .fails = step_fails()};
  running_ = counted_.connection().post<PageRequest>(pages_->id, run);
  stage_ = Stage::running;
  ++pages_->steps;
  ledger().step_submitted();
}

void RemoteProgram::wait(StepResult& result) {
  const Exclusive exclusive(*pages_, "wait");
  lose_if_asked(counted_.connection());
  if (stage_ != Stage::running) fail_breach("wait without a submit");
  stage_ = Stage::idle;
  --pages_->steps;
  result = counted_.connection().await<RunStep>(std::exchange(running_, nullptr));
}

}  // namespace tessera::remote
