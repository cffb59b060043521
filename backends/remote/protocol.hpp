// What the backend asks its worker. A request is a struct with its fields and the type of its
// reply; it travels as the variant of its lane. Ids are given by the worker and never used twice.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "backends/remote/remote.hpp"
#include "backends/remote/wire_fields.hpp"

namespace tessera::remote {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr int kWorkerSocket = 3;           // descriptor at which the worker starts
inline constexpr uint64_t kPartBytes = 1u << 20;  // most bytes of one WeightPart
inline constexpr uint64_t kMostWeightBytes = uint64_t{1} << 34;

struct Done {};

// Body of an error frame.
struct Failure {
  Status status = Status::internal;
  std::string message;
};

// ---- Lane 0: the device, weights, page memories

// Opens the device; the first request.
struct Hello {
  using Reply = DeviceInfo;
  uint32_t version = kProtocolVersion;
  MathMode math = MathMode::fast;
};

// A weight arrives as one BeginWeight, its parts in order, one EndWeight, under one id.
struct BeginWeight {
  using Reply = uint64_t;  // id
  WeightDesc desc;
};
struct WeightPart {
  using Reply = Done;
  uint64_t id = 0;
  Bytes data;  // at most kPartBytes
};
struct EndWeight {
  using Reply = uint64_t;  // device bytes
  uint64_t id = 0;
};
// Drops a weight, or one that has not arrived in full.
struct DropWeight {
  using Reply = Done;
  uint64_t id = 0;
};

struct PageBytes {
  using Reply = uint64_t;
  KvLayout layout;
  uint32_t group = 0;
};
struct PageLayoutName {
  using Reply = std::string;
  KvLayout layout;
};
struct CreatedPages {
  uint64_t id = 0;                   // also the lane of all that concerns these pages
  std::vector<uint64_t> page_bytes;  // by group
};
struct CreatePages {
  using Reply = CreatedPages;
  KvLayout layout;
  std::vector<uint32_t> counts;
};
struct DropPages {
  using Reply = Done;
  uint64_t id = 0;
};

struct CountObjects {
  using Reply = RemoteStats;
};

using DeviceRequest = std::variant<Hello, BeginWeight, WeightPart, EndWeight, DropWeight, PageBytes,
                                   PageLayoutName, CreatePages, DropPages, CountObjects>;

// ---- A page memory's own lane: pages and the programs over them, in the order of arrival

struct ReadPage {
  using Reply = Bytes;
  uint32_t group = 0;
  uint32_t page = 0;
};
struct WritePage {
  using Reply = Done;
  uint32_t group = 0;
  uint32_t page = 0;
  Bytes data;
};
struct CopyPage {
  using Reply = Done;
  uint32_t group = 0;
  uint32_t from = 0;
  uint32_t to = 0;
};

struct Compile {
  using Reply = uint64_t;  // id
  Graph graph;
  ProgramOptions options;
};
struct Plan {
  using Reply = Done;
  uint64_t program = 0;
  Step step;
};
// Runs the planned step; the reply comes when it is done.
struct RunStep {
  using Reply = StepResult;
  uint64_t program = 0;
  uint32_t delay_us = 0;  // waits so long before it runs
  bool fails = false;     // fails instead of running
};
struct DropProgram {
  using Reply = Done;
  uint64_t program = 0;
};

using PageRequest =
    std::variant<ReadPage, WritePage, CopyPage, Compile, Plan, RunStep, DropProgram>;

// ---- Fields

template <class T, class... U>
concept OneOf = (Is<T, U> || ...);

template <class A>
void fields(A&, OneOf<Done, CountObjects> auto&) {}
template <class A>
void fields(A& a, OneOf<EndWeight, DropWeight, DropPages> auto& v) {
  auto& [id] = v;
  a(id);
}
template <class A>
void fields(A& a, Is<Failure> auto& v) {
  auto& [status, message] = v;
  a(status, message);
}
template <class A>
void fields(A& a, Is<Hello> auto& v) {
  auto& [version, math] = v;
  a(version, math);
}
template <class A>
void fields(A& a, Is<BeginWeight> auto& v) {
  auto& [desc] = v;
  a(desc);
}
template <class A>
void fields(A& a, Is<WeightPart> auto& v) {
  auto& [id, data] = v;
  a(id, data);
}
template <class A>
void fields(A& a, Is<PageBytes> auto& v) {
  auto& [layout, group] = v;
  a(layout, group);
}
template <class A>
void fields(A& a, Is<PageLayoutName> auto& v) {
  auto& [layout] = v;
  a(layout);
}
template <class A>
void fields(A& a, Is<CreatedPages> auto& v) {
  auto& [id, page_bytes] = v;
  a(id, page_bytes);
}
template <class A>
void fields(A& a, Is<CreatePages> auto& v) {
  auto& [layout, counts] = v;
  a(layout, counts);
}
template <class A>
void fields(A& a, Is<RemoteStats> auto& v) {
  auto& [weights, page_memories, programs, bytes] = v;
  a(weights, page_memories, programs, bytes);
}
template <class A>
void fields(A& a, Is<ReadPage> auto& v) {
  auto& [group, page] = v;
  a(group, page);
}
template <class A>
void fields(A& a, Is<WritePage> auto& v) {
  auto& [group, page, data] = v;
  a(group, page, data);
}
template <class A>
void fields(A& a, Is<CopyPage> auto& v) {
  auto& [group, from, to] = v;
  a(group, from, to);
}
template <class A>
void fields(A& a, Is<Compile> auto& v) {
  auto& [graph, options] = v;
  a(graph, options);
}
template <class A>
void fields(A& a, Is<Plan> auto& v) {
  auto& [program, step] = v;
  a(program, step);
}
template <class A>
void fields(A& a, Is<RunStep> auto& v) {
  auto& [program, delay_us, fails] = v;
  a(program, delay_us, fails);
}
template <class A>
void fields(A& a, Is<DropProgram> auto& v) {
  auto& [program] = v;
  a(program);
}

}  // namespace tessera::remote
