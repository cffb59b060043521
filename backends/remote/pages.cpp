#include <cstring>
#include <string>
#include <utility>

#include "backends/remote/ledger.hpp"
#include "backends/remote/objects.hpp"

namespace tessera::remote {

void fail_breach(const std::string& what) {
  ledger().breach(what);
  fail(Status::internal, "remote: " + what);
}

Exclusive::Exclusive(PageState& state, const char* call) : state_(state) {
  if (state_.busy.exchange(true, std::memory_order_acquire)) {
    fail_breach(std::string(call) +
                " while another thread is in a call on the same page memory or its programs; one "
                "thread at a time");
  }
}

RemotePageMemory::RemotePageMemory(std::shared_ptr<Device> device, CreatedPages created,
                                   uint64_t bytes)
    : counted_(std::move(device), {.page_memories = 1, .bytes = static_cast<int64_t>(bytes)}),
      state_(std::make_shared<PageState>()) {
  state_->id = created.id;
  state_->page_bytes = std::move(created.page_bytes);
}

RemotePageMemory::~RemotePageMemory() {
  if (state_->programs.load() > 0) {
    ledger().breach("a page memory is destroyed before the programs over it");
  }
  counted_.connection().drop(DropPages{state_->id});
}

void RemotePageMemory::check_idle(const char* call) const {
  counted_.connection().check();
  if (state_->steps.load() > 0) {
    fail_breach(std::string(call) + " of a page while a step over the page memory is under way");
  }
}

uint64_t RemotePageMemory::page_bytes(uint32_t group) const {
  if (group >= state_->page_bytes.size()) {
    fail(Status::invalid_argument, "group " + std::to_string(group) + ": the page memory has " +
                                       std::to_string(state_->page_bytes.size()) + " groups");
  }
  return state_->page_bytes[group];
}

void RemotePageMemory::read(uint32_t group, uint32_t page, void* out) {
  const Exclusive exclusive(*state_, "read");
  check_idle("read");
  const uint64_t size = page_bytes(group);
  const Bytes bytes =
      counted_.connection().call_pages(state_->id, ReadPage{.group = group, .page = page});
  if (bytes.size() != size) fail(Status::internal, "remote: a page of the wrong size arrived");
  std::memcpy(out, bytes.data(), size);
}

void RemotePageMemory::write(uint32_t group, uint32_t page, const void* in) {
  const Exclusive exclusive(*state_, "write");
  check_idle("write");
  const auto* begin = static_cast<const uint8_t*>(in);
  WritePage request{.group = group, .page = page, .data = {}};
  request.data.assign(begin, begin + page_bytes(group));
  counted_.connection().call_pages(state_->id, std::move(request));
}

void RemotePageMemory::copy(uint32_t group, uint32_t from, uint32_t to) {
  const Exclusive exclusive(*state_, "copy");
  check_idle("copy");
  counted_.connection().call_pages(state_->id, CopyPage{.group = group, .from = from, .to = to});
}

}  // namespace tessera::remote
