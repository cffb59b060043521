// Host memory runs out at every allocation of a request, on the engine's thread or the caller's.
#include "tests/unit/engine/memory_fixture.hpp"

namespace tessera::test {
namespace {

class HostMemory : public MemoryFixture {};
INSTANTIATE_TEST_SUITE_P(Devices, HostMemory, testing::Values("cpu"));
// Where HostMemory leaves out allocations.
class FullHostMemory : public MemoryFixture {};
INSTANTIATE_TEST_SUITE_P(Devices, FullHostMemory, testing::Values("cpu"));

tsr::Session text_only(const tsr::Context& context) {
  tsr::Session session(context);
  session.add_text(digits(20, 1));
  return session;
}

tsr::Session repetition(const tsr::Context& context) {
  tsr::Session session(context);
  session.add_text("ababababab");
  return session;
}

tsr::Session chunk_last(const tsr::Context& context) {
  tsr::Session session(context);
  const tsr::Chunk ready(context, digits(16, 2));
  EXPECT_TRUE(ready.wait());
  session.add_anchor();
  session.add_chunk(ready);
  return session;
}

// The second session of two that begin alike, after an evaluation, with pages to take over.
tsr::Session prefix_and_turns(const tsr::Context& context) {
  tsr::Session first(context), session(context);
  first.add_text(digits(40, 4));
  first.evaluate();
  session.add_text(digits(40, 4).substr(0, 24));
  session.evaluate();
  return session;
}

// Chunks, one of them not encoded yet, whose heads or selected tokens are computed.
tsr::Session repaired(const tsr::Context& context, tsr_repair mode, uint64_t flags = 0) {
  tsr::SessionOptions options = repair(mode);
  options.head_tokens = 5;
  options.select_share = 0.5f;
  options.flags = flags;
  tsr::Session session(context, options);
  tsr::ChunkOptions lazy;
  lazy.flags = TSR_CHUNK_LAZY;
  const tsr::Chunk ready(context, digits(9, 2)), absent(context, digits(12, 3), lazy);
  EXPECT_TRUE(ready.wait());
  session.add_text("x");
  session.add_chunk(ready);
  session.add_chunk(absent);
  session.add_text("so?");
  return session;
}
tsr::Session heads(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_HEAD);
}
tsr::Session selected(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_SELECT);
}
tsr::Session heads_and_selected(const tsr::Context& context) {
  return repaired(context, TSR_REPAIR_HEAD_SELECT);
}
tsr::Session second_turn(const tsr::Context& context) {
  tsr::Session session = heads_and_selected(context);
  session.evaluate();
  session.add_chunk(tsr::Chunk(context, digits(11, 4)));
  session.add_text("and?");
  return session;
}
tsr::Session reselected(const tsr::Context& context) {
  tsr::Session session = repaired(context, TSR_REPAIR_HEAD_SELECT, TSR_SESSION_RESELECT);
  session.evaluate();
  session.add_text("or?");
  return session;
}

TEST_P(HostMemory, RunsOutOnce) {
  for (const Setup setup : {text_only, chunks_and_text, chunk_last, prefix_and_turns}) {
    run(setup, 1, 1);
  }
}

TEST_P(HostMemory, RunsOutWhileChunksAreRepaired) {
  for (const Setup setup : {heads, selected, heads_and_selected, second_turn, reselected}) {
    run(setup, 1, 1);
    run(setup, INT64_MAX, 7);
  }
  run(heads_and_selected, 1, 3, Ask::everything);
}

TEST_P(FullHostMemory, RunsOutWhileChunksAreRepaired) {
  for (const Setup setup : {heads, selected, heads_and_selected, second_turn, reselected}) {
    run(setup, INT64_MAX, 1);
  }
  run(heads_and_selected, 1, 1, Ask::everything);
}

TEST_P(HostMemory, RunsOutWithDraftsAndPenalties) {
  run(repetition, 1, 1, Ask::everything);
  run(chunks_and_text, 1, 3, Ask::everything);
  run(repetition, INT64_MAX, 3, Ask::everything);
}

TEST_P(FullHostMemory, RunsOutWithDraftsAndPenalties) {
  run(chunks_and_text, 1, 1, Ask::everything);
  run(repetition, INT64_MAX, 1, Ask::everything);
}

TEST_P(HostMemory, RunsOutForADrawnAnswer) {
  run(text_only, 1, 1, Ask::drawn);
  run(chunks_and_text, 1, 3, Ask::drawn);
  run(text_only, INT64_MAX, 3, Ask::drawn);
}

TEST_P(FullHostMemory, RunsOutForADrawnAnswer) {
  run(chunks_and_text, 1, 1, Ask::drawn);
  run(text_only, INT64_MAX, 1, Ask::drawn);
}

TEST_P(HostMemory, RunsOutAndStaysOut) {
  for (const Setup setup : {text_only, chunks_and_text, chunk_last, prefix_and_turns}) {
    run(setup, INT64_MAX, 3);
  }
}

TEST_P(FullHostMemory, RunsOutAndStaysOut) {
  for (const Setup setup : {text_only, chunks_and_text, chunk_last, prefix_and_turns}) {
    run(setup, INT64_MAX, 1);
  }
}

// A fork takes its copies of pages while it answers.
tsr::Session forked(const tsr::Context& context) {
  tsr::Session session = chunks_and_text(context);
  generate(session, greedy(3));
  return session.fork();
}

TEST_P(HostMemory, RunsOutForAFork) {
  run(forked, 1, 1);
}

}  // namespace
}  // namespace tessera::test
