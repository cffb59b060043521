// What is given up when pages are short, what is not, and what the application has to say in it.
#include <optional>

#include "tests/unit/engine/fixture.hpp"
#include "tests/unit/kv/weak_hashes.hpp"

namespace tessera::test {
namespace {

constexpr uint64_t kPageBytes = 8 * kTokenBytes;

tsr::ChunkOptions lazy() {
  tsr::ChunkOptions options;
  options.flags = TSR_CHUNK_LAZY;
  return options;
}

class Eviction : public EngineTest {
 protected:
  // A prompt that takes the chunk as encoded and leaves no page of its own behind.
  static void use(const tsr::Context& context, const tsr::Chunk& chunk) {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_chunk(chunk);
    session.add_text("?");
    generate(session, greedy(1));
  }

  // Makes that many pages be taken at once, and then leaves them to the caches.
  static void need(const tsr::Context& context, uint64_t pages, uint64_t seed) {
    tsr::Session session(context);
    session.add_text(digits(pages * 8 - 1, seed));
    generate(session, greedy(1));
  }
};
TESSERA_ON_EACH_DEVICE(Eviction);

// The last used go last where all else is equal; here the chunk that is used often was used before
// all of those that come once, of which there are three times as many as there is room for.
TEST_P(Eviction, WhatIsUsedOftenSurvivesAScan) {
  const tsr::Context context = this->context(small(20));
  const tsr::Chunk favourite(context, digits(16, 1));
  for (int i = 0; i < 6; ++i) use(context, favourite);
  for (uint64_t i = 0; i < 30; ++i) use(context, tsr::Chunk(context, digits(16, 100 + i)));
  EXPECT_GE(context.metrics().evicted_chunks, 20u);
  EXPECT_EQ(favourite.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(favourite.info().uses, 6u);
  // Not for ever: what is not used any more has to go in the end.
  for (uint64_t i = 0; i < 100 && favourite.info().state == TSR_CHUNK_READY; ++i) {
    use(context, tsr::Chunk(context, digits(16, 1000 + i)));
  }
  EXPECT_EQ(favourite.info().state, TSR_CHUNK_ABSENT);
  expect_only_caches(context);
}

// A page deep in a prompt takes more attention to compute again than one at its beginning.
TEST_P(Eviction, DearRunsOutliveCheapOnes) {
  const tsr::Context context = this->context(small(150));
  {
    tsr::Session deep(context);
    deep.add_text(digits(1025, 1));
    generate(deep, greedy(1));
  }
  for (uint64_t i = 0; i < 10; ++i) {
    tsr::Session shallow(context);
    shallow.add_text(digits(9, 100 + i));
    generate(shallow, greedy(1));
  }
  EXPECT_EQ(context.metrics().pages_cached, 138u);
  need(context, 22, 2);
  EXPECT_EQ(context.metrics().evicted_runs, 10u);
  tsr::Session again(context);
  again.add_text(digits(1025, 1));
  generate(again, greedy(1));
  EXPECT_EQ(again.report().tokens_exact, 1024u) << "though all of the others were used later";
}

TEST_P(Eviction, NothingInUseGoes) {
  const tsr::Context context = this->context(small(30));
  const tsr::Chunk chunk(context, digits(20, 1));
  tsr::Session holder(context);
  holder.add_text(digits(20, 2));
  holder.add_chunk(chunk);
  holder.add_text("?");
  generate(holder, greedy(2));
  const uint64_t held = engine::ContextProbe(context.get()).pages_of_sessions();
  const std::vector<float> before = holder.evaluate();
  for (uint64_t i = 0; i < 20; ++i) {
    need(context, 30 - held - 1, 10 + i);
    EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  }
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(chunk.info().sessions, 1u);
  EXPECT_LT(largest_difference(holder.evaluate(), before), 1e-3f);
  expect_idle(context);
}

TEST_P(Eviction, APinnedChunkStays) {
  const tsr::Context context = this->context(small(10));
  const tsr::Chunk chunk(context, digits(16, 1), lazy());
  chunk.pin();
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT) << "a pin does not encode";
  EXPECT_EQ(context.metrics().pages_pinned, 0u);
  ASSERT_TRUE(chunk.wait());
  EXPECT_EQ(chunk.info().pinned, 1);
  EXPECT_EQ(context.metrics().pages_pinned, 2u);
  EXPECT_EQ(context.metrics().pages_cached, 0u);
  for (uint64_t i = 0; i < 10; ++i) need(context, 8, 10 + i);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);

  tsr::Session large(context);
  large.add_text(digits(71, 3));
  std::string message;
  EXPECT_EQ(status_of([&] { large.generate(greedy(1)); }, &message), TSR_CAPACITY);
  EXPECT_NE(
      message.find("needs " + std::to_string(9 * kPageBytes) + ", " + std::to_string(kPageBytes) +
                   " more; pinned chunks hold " + std::to_string(2 * kPageBytes)),
      std::string::npos)
      << message;
  chunk.pin(false);
  EXPECT_EQ(context.metrics().pages_pinned, 0u);
  generate(large, greedy(1));
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  expect_idle(context);
}

// Pages that were promised to a running answer cannot be pinned away from it.
TEST_P(Eviction, APinBreaksNoPromise) {
  const tsr::Context context = this->context(small(8));
  const tsr::Chunk chunk(context, digits(32, 1));
  ASSERT_TRUE(chunk.wait());
  tsr::SessionOptions narrow;
  narrow.event_capacity = 1;
  tsr::Session running(context, narrow);
  running.add_text(digits(8, 2));
  running.generate(greedy(40));  // 6 pages, 4 are free
  std::string message;
  EXPECT_EQ(status_of([&] { chunk.pin(); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find(std::to_string(2 * kPageBytes) + " more"), std::string::npos) << message;
  EXPECT_EQ(chunk.info().pinned, 0);
  EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
  EXPECT_EQ(read(running).tokens, 40u);
}

TEST_P(Eviction, ADroppedChunkGivesItsPagesBackNow) {
  const tsr::Context context = this->context(small(20));
  const tsr::Chunk chunk(context, digits(20, 1));
  ASSERT_TRUE(chunk.wait());
  chunk.pin();
  std::vector<int32_t> answer;
  {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    session.add_text("!");
    session.add_chunk(chunk);
    session.add_text("?");
    EXPECT_EQ(chunk.info().sessions, 0u) << "nothing is used before an answer begins";
    answer = generate(session, greedy(5));
    EXPECT_EQ(chunk.info().sessions, 1u);
    std::string message;
    EXPECT_EQ(status_of([&] { chunk.drop(); }, &message), TSR_BUSY);
    EXPECT_NE(message.find("sessions: 1"), std::string::npos) << message;
    EXPECT_EQ(chunk.info().pinned, 1) << "nothing was dropped";
  }
  chunk.drop(TSR_DROP_DISK);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_READY);
  const uint64_t used = context.metrics().pages_used;
  chunk.drop(TSR_DROP_MEMORY);
  EXPECT_EQ(context.metrics().pages_used, used - 3);
  EXPECT_EQ(chunk.info().state, TSR_CHUNK_ABSENT);
  EXPECT_EQ(chunk.info().pinned, 0);
  EXPECT_EQ(context.metrics().evicted_chunks, 0u);
  chunk.drop();  // twice is fine
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  session.add_text("!");
  session.add_chunk(chunk);
  session.add_text("?");
  EXPECT_EQ(generate(session, greedy(5)), answer) << "encoded again";
  session.reset();
  expect_only_caches(context);
}

TEST_P(Eviction, ChunksAreListedAsLongAsThereIsSomethingOfThem) {
  const tsr::Context context = this->context(small(20));
  EXPECT_TRUE(context.chunks().empty());
  std::optional<tsr::Chunk> a(std::in_place, context, digits(16, 1));
  std::optional<tsr::Chunk> b(std::in_place, context, digits(16, 2), lazy());
  std::optional<tsr::Chunk> c(std::in_place, context, digits(16, 3), lazy());
  ASSERT_TRUE(a->wait());
  const auto id = [](const tsr::Chunk& chunk) {
    const tsr::ChunkInfo info = chunk.info();
    return std::pair(info.identity[0], info.identity[1]);
  };
  const auto listed = [&] {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    for (const tsr_chunk_id& each : context.chunks()) all.emplace_back(each.low, each.high);
    return all;
  };
  const auto ida = id(*a), idb = id(*b), idc = id(*c);
  EXPECT_EQ(listed(), (std::vector{ida, idb, idc}));
  c->pin();
  a.reset();
  b.reset();
  c.reset();
  EXPECT_EQ(listed(), (std::vector{ida, idc})) << "one has KV, one is pinned";
  const tsr_chunk_id gone = {idb.first, idb.second}, there = {ida.first, ida.second};
  EXPECT_EQ(status_of([&] { tsr::Chunk::open(context, gone); }), TSR_NOT_FOUND);
  tsr::Chunk opened = tsr::Chunk::open(context, there);
  EXPECT_EQ(opened.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(opened.info().tokens, 16u);
  use(context, opened);
  EXPECT_EQ(opened.info().uses, 1u);
  opened.drop();
  EXPECT_EQ(listed(), (std::vector{ida, idc})) << "it has a handle still";
  opened.reset();
  EXPECT_EQ(listed(), std::vector{idc});
  tsr::Chunk::open(context, {idc.first, idc.second}).drop();
  EXPECT_TRUE(listed().empty());
  expect_only_caches(context);
}

// Places in the prefix tree that hold no page go with what needs them.
TEST_P(Eviction, SharedTextsInTheTreeDoNotPileUp) {
  const tsr::Context context = this->context(small(200));
  std::vector<tsr::Chunk> chunks;
  for (uint64_t i = 0; i < 6; ++i) chunks.emplace_back(context, digits(16, i));
  for (uint64_t i = 0; i < 40; ++i) {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    for (uint64_t c = 0; c < 4; ++c) session.add_chunk(chunks[(i * (c + 1) + c * i) % 6]);
    session.add_text("?");
    generate(session, greedy(2));
  }
  EXPECT_EQ(engine::ContextProbe(context.get()).prefix_nodes(), 0u);
  expect_only_caches(context);
}

TEST_P(Eviction, RunsAndChunksOfOneHash) {
  const auto answers = [&] {
    const tsr::Context context = this->context(small(60));
    std::vector<std::vector<int32_t>> all;
    for (uint64_t i = 0; i < 24; ++i) {
      const tsr::Chunk a(context, digits(20, i % 5)), b(context, digits(20, i % 3 + 10));
      tsr::Session session(context, repair(static_cast<tsr_repair>(1 + i % 5)));
      session.add_text(digits(17, i % 2));
      session.add_chunk(a);
      session.add_chunk(b);
      session.add_text(digits(9, i % 4));
      all.push_back(generate(session, greedy(6)));
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
    }
    EXPECT_GT(context.metrics().prefix_tokens, 0u);
    EXPECT_GT(context.metrics().evicted_runs, 0u);
    return all;
  };
  const auto expected = answers();
  const kv::test::WeakHashes weak;
  EXPECT_EQ(answers(), expected);
  const tsr::Context context = this->context(small(60));
  const tsr::Chunk a(context, digits(20, 1)), b(context, digits(20, 2));
  EXPECT_EQ(context.chunks().size(), 2u);
  const tsr_chunk_id id = context.chunks()[0];
  EXPECT_EQ(status_of([&] { tsr::Chunk::open(context, id); }), TSR_NOT_FOUND) << "which?";
}

// What admission asks for is enough, and not a page more than it says.
struct Case {
  tsr_repair repair = TSR_REPAIR_NONE;
  bool reselect = false;
  bool anchored = false;
};

class Admission : public EngineTest {
 protected:
  struct Attempt {
    tsr_status status = TSR_OK;
    std::string message;
    std::vector<std::vector<int32_t>> answers;  // of the turns that were admitted
  };

  Attempt attempt(const Case& c, uint64_t pages, int turns) {
    tsr::ContextOptions options = small(pages);
    const std::string anchor = digits(11, 50), primer = digits(9, 51);
    if (c.anchored) {
      options.flags = 0;
      options.set_anchor(anchor);
      options.set_primer(primer);
    }
    const tsr::Context context = this->context(options);
    tsr::SessionOptions session_options = repair(c.repair);
    session_options.head_tokens = 5;
    session_options.select_share = 0.3f;
    if (c.reselect) session_options.flags = TSR_SESSION_RESELECT;
    tsr::Session session(context, session_options);
    if (c.anchored) session.add_anchor();
    session.add_text(digits(5, 1));
    Attempt attempt;
    for (int turn = 0; turn < turns; ++turn) {
      const auto seed = static_cast<uint64_t>(turn);
      session.add_chunk(tsr::Chunk(context, digits(20, 10 + seed), lazy()));
      session.add_text(digits(3, 20 + seed));
      session.add_chunk(tsr::Chunk(context, digits(13, 30 + seed), lazy()));
      if (turn != 1) session.add_text(digits(9, 40 + seed));  // a turn without a question too
      attempt.status = status_of([&] { session.generate(greedy(7)); }, &attempt.message);
      EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      if (attempt.status != TSR_OK) break;
      const size_t before = session.info().tokens;
      const Answer answer = read(session);
      EXPECT_EQ(answer.status, TSR_OK) << answer.message;
      const std::vector<int32_t> tokens = session.tokens();
      EXPECT_GE(tokens.size(), before);
      attempt.answers.emplace_back(tokens.end() - 7, tokens.end());
      expect_idle(context);
    }
    return attempt;
  }

  // The number in front of " more".
  static uint64_t missing_pages(const std::string& message) {
    const size_t end = message.find(" more");
    EXPECT_NE(end, std::string::npos) << message;
    const size_t begin = message.rfind(' ', end - 1) + 1;
    const uint64_t bytes = std::stoull(message.substr(begin, end - begin));
    EXPECT_EQ(bytes % kPageBytes, 0u);
    return bytes / kPageBytes;
  }
};
TESSERA_ON_EACH_DEVICE(Admission);

TEST_P(Admission, AsksForWhatIsEnoughAndNoMore) {
  std::vector<Case> cases;
  for (tsr_repair r = TSR_REPAIR_NONE; r <= TSR_REPAIR_FULL; ++r) {
    for (const bool anchored : {false, true}) cases.push_back({r, false, anchored});
  }
  cases.push_back({TSR_REPAIR_SELECT, true, false});
  cases.push_back({TSR_REPAIR_HEAD_SELECT, true, true});
  for (const Case& c : cases) {
    SCOPED_TRACE("repair " + std::to_string(c.repair) + (c.reselect ? " reselect" : "") +
                 (c.anchored ? " anchored" : ""));
    const Attempt roomy = attempt(c, 500, 3);
    ASSERT_EQ(roomy.answers.size(), 3u);
    uint64_t pages = 5;
    for (int turn = 1; turn <= 3; ++turn) {
      SCOPED_TRACE("turn " + std::to_string(turn));
      const Attempt refused = attempt(c, pages, turn);
      ASSERT_EQ(refused.status, TSR_CAPACITY);
      EXPECT_EQ(refused.answers.size(), static_cast<size_t>(turn - 1));
      pages += missing_pages(refused.message);
      const Attempt one_less = attempt(c, pages - 1, turn);
      EXPECT_EQ(one_less.status, TSR_CAPACITY);
      EXPECT_EQ(missing_pages(one_less.message), 1u) << one_less.message;
      const Attempt enough = attempt(c, pages, turn);
      EXPECT_EQ(enough.status, TSR_OK) << enough.message;
      EXPECT_EQ(enough.answers, std::vector(roomy.answers.begin(), roomy.answers.begin() + turn));
    }
  }
}

}  // namespace
}  // namespace tessera::test
