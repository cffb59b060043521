// The requests of a page memory's own lane.
#include <string>
#include <utility>

#include "backends/remote/worker/service.hpp"

namespace tessera::remote {
namespace {

// Backends trust the indices of these calls.
void check_page(const std::vector<uint32_t>& counts, uint32_t group, uint32_t page) {
  if (group >= counts.size() || page >= counts[group]) {
    fail(Status::invalid_argument,
         "page " + std::to_string(page) + " of group " + std::to_string(group) +
             ": the page memory has " + std::to_string(counts.size()) + " groups and " +
             std::to_string(group < counts.size() ? counts[group] : 0) + " pages in this one");
  }
}

template <class Programs>
auto find_program(Programs& programs, uint64_t id) {
  const auto found = programs.find(id);
  if (found == programs.end()) {
    fail(Status::invalid_argument, "remote: the worker has no program " + std::to_string(id));
  }
  return found;
}

}  // namespace

Bytes Service::handle(Pages& pages, Used&, ReadPage& request) {
  check_page(pages.counts, request.group, request.page);
  Bytes bytes(pages.page_bytes[request.group]);
  pages.memory->read(request.group, request.page, bytes.data());
  return bytes;
}

Done Service::handle(Pages& pages, Used&, WritePage& request) {
  check_page(pages.counts, request.group, request.page);
  if (request.data.size() != pages.page_bytes[request.group]) {
    fail(Status::invalid_argument, "remote: " + std::to_string(request.data.size()) +
                                       " bytes for a page of " +
                                       std::to_string(pages.page_bytes[request.group]));
  }
  pages.memory->write(request.group, request.page, request.data.data());
  return {};
}

Done Service::handle(Pages& pages, Used&, CopyPage& request) {
  check_page(pages.counts, request.group, request.from);
  check_page(pages.counts, request.group, request.to);
  pages.memory->copy(request.group, request.from, request.to);
  return {};
}

uint64_t Service::handle(Pages& pages, Used& used, Compile& request) {
  LoadedProgram loaded{.weights = std::move(used), .program = nullptr};
  loaded.program = device().compile(request.graph, *pages.memory, request.options);
  const uint64_t id = ++last_id_;
  pages.programs.emplace(id, std::move(loaded));
  ++pages.program_count;
  return id;
}

Done Service::handle(Pages& pages, Used&, Plan& request) {
  find_program(pages.programs, request.program)->second.program->plan(request.step);
  return {};
}

StepResult Service::handle(Pages& pages, Used&, RunStep& request) {
  Program& program = *find_program(pages.programs, request.program)->second.program;
  if (request.delay_us > 0) pages.lane.pause(request.delay_us);
  if (request.fails) fail(Status::internal, "remote: the step failed, as injected");
  StepResult result;
  program.submit();
  program.wait(result);
  return result;
}

Done Service::handle(Pages& pages, Used&, DropProgram& request) {
  pages.programs.erase(find_program(pages.programs, request.program));
  --pages.program_count;
  return {};
}

}  // namespace tessera::remote
