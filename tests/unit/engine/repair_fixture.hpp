// What the tests of the repair dial share: sessions of three chunks, exact KV.
#pragma once

#include <string>
#include <vector>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {

struct Dial {
  tsr_repair mode = TSR_REPAIR_HEAD_SELECT;
  uint32_t head = 5;
  float share = 0.2f;
  uint64_t flags = 0;
  float layers = 1;

  tsr::SessionOptions options() const {
    tsr::SessionOptions options = repair(mode);
    options.head_tokens = head;
    options.select_share = share;
    options.select_layers = layers;
    options.flags = flags;
    return options;
  }
};

class RepairFixture : public EngineTest {
 protected:
  // Exact KV, so that differences come from repair alone.
  static tsr::ContextOptions exact_options(uint32_t step_tokens = 16, uint64_t pages = 512) {
    static const std::string anchor = "<|im_start|>the anchor";
    tsr::ContextOptions options = small(pages);
    options.kv_type = TSR_KV_F32;
    options.max_step_tokens = step_tokens;
    options.set_anchor(anchor);
    return options;
  }
  tsr::Context exact(uint32_t step_tokens = 16, uint64_t pages = 512) {
    return context(exact_options(step_tokens, pages));
  }
};

// Three chunks, the first of them exact; lengths that no page holds whole.
inline std::vector<tsr::Chunk> chunks(const tsr::Context& context, uint64_t flags = 0) {
  tsr::ChunkOptions options;
  options.flags = flags;
  std::vector<tsr::Chunk> made;
  for (const uint64_t length : {20u, 37u, 13u}) {
    made.emplace_back(context, digits(length, length), options);
  }
  return made;
}
inline constexpr uint64_t kChunkTokens = 20 + 37 + 13;

inline void add(tsr::Session& session, const std::vector<tsr::Chunk>& made) {
  session.add_anchor();
  for (const tsr::Chunk& chunk : made) session.add_chunk(chunk);
}

inline std::vector<float> ask(const tsr::Context& context, const std::vector<tsr::Chunk>& made,
                              const tsr::SessionOptions& options, tsr::Report* report = nullptr) {
  tsr::Session session(context, options);
  add(session, made);
  session.add_text("and which of them?");
  const std::vector<float> logits = session.evaluate();
  expect_report(session, session.info().tokens);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  if (report) *report = session.report();
  return logits;
}

// Logical positions of the tokens that a session has selected, question by question.
inline std::vector<std::vector<int32_t>> selected(const tsr::Context& context,
                                                  const tsr::Session& session) {
  std::vector<std::vector<int32_t>> positions;
  for (const engine::Segment& s : engine::ContextProbe(context.get()).segments(session.get())) {
    if (s.overlay()) positions.push_back(s.span.positions);
  }
  return positions;
}

}  // namespace tessera::test
