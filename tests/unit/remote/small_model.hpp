// A random two-layer model on any backend, and a session over it: enough to see whether two devices
// compute the same.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backends/backend.hpp"

namespace tessera::remote::test {

inline constexpr uint32_t kVocabulary = 96;

// The weights on one backend; the same values everywhere.
class SmallModel {
 public:
  explicit SmallModel(Backend& backend);

  Backend& backend() const { return backend_; }
  const Graph& graph() const { return graph_; }
  static KvLayout layout();

 private:
  const Weight* load(uint32_t rows, uint32_t columns, DType type = DType::f32,
                     uint32_t uses = kUseMatmul);

  Backend& backend_;
  std::vector<std::unique_ptr<Weight>> weights_;
  Graph graph_;
};

// One context with one program: tokens go in, full logits of the last one come out.
class SmallSession {
 public:
  explicit SmallSession(const SmallModel& model);

  // plan, submit, wait for `tokens` behind those before.
  LogitsResult run(const std::vector<int32_t>& tokens);
  // A prompt made from `seed`, then `count` greedy tokens; the logits of every step.
  std::vector<LogitsResult> generate(uint32_t seed, uint32_t count);

  // The next step, without moving on.
  Step step(const std::vector<int32_t>& tokens) const;

  PageMemory& pages() { return *pages_; }
  Program& program() { return *program_; }
  std::vector<uint8_t> page(uint32_t page);
  void drop_program() { program_.reset(); }
  void drop_pages() { pages_.reset(); }

 private:
  const SmallModel& model_;
  std::unique_ptr<PageMemory> pages_;
  std::unique_ptr<Program> program_;
  int32_t length_ = 0;
};

// Bit for bit.
bool same(const LogitsResult& a, const LogitsResult& b);
bool same(const std::vector<LogitsResult>& a, const std::vector<LogitsResult>& b);

}  // namespace tessera::remote::test
