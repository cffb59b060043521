// Chunks: encoded once, taken wherever they stand.
#include <algorithm>
#include <set>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

const std::string kAnchor = "<|im_start|>anchor";

class Chunks : public EngineTest {
 protected:
  tsr::Context anchored(const std::string& primer = "", uint64_t pages = 512) {
    tsr::ContextOptions options = small(pages);
    options.set_anchor(kAnchor);
    if (!primer.empty()) {
      options.flags = 0;
      options.set_primer(primer);
    }
    return context(options);
  }
  static uint64_t anchor_tokens(tsr::Session& session) {
    session.add_anchor();
    return session.info().tokens;
  }
  static tsr::ChunkOptions lazy() {
    tsr::ChunkOptions options;
    options.flags = TSR_CHUNK_LAZY;
    return options;
  }
};
TESSERA_ON_EACH_DEVICE(Chunks);

// Logits behind anchor, chunk and question.
std::vector<float> ask(const tsr::Context& context, const tsr::Chunk& chunk,
                       const tsr::SessionOptions& options = {}) {
  tsr::Session session(context, options);
  session.add_anchor();
  session.add_chunk(chunk);
  session.add_text("?");
  return session.evaluate();
}

TEST_P(Chunks, BehindTheAnchorAChunkIsExact) {
  const tsr::Context context = anchored();
  for (const uint64_t length : {1u, 7u, 8u, 9u, 40u}) {
    const tsr::Chunk chunk(context, digits(length, 1));
    EXPECT_EQ(ask(context, chunk), ask(context, chunk, repair(TSR_REPAIR_FULL))) << length;
    tsr::Session session(context);
    const uint64_t anchor = anchor_tokens(session);
    session.add_chunk(chunk);
    session.add_text("?");
    session.evaluate();
    EXPECT_EQ(session.report().tokens_exact, anchor + length);
    EXPECT_EQ(session.report().tokens_computed, 1u);
  }
}

TEST_P(Chunks, OtherPlacesAreApproximate) {
  const tsr::Context context = anchored();
  const tsr::Chunk a(context, digits(20, 1)), b(context, digits(20, 2));
  const auto report = [&](bool with_anchor, const std::string& text) {
    tsr::Session session(context, repair(TSR_REPAIR_NONE));
    if (with_anchor) session.add_anchor();
    if (!text.empty()) session.add_text(text);
    session.add_chunk(b);
    session.add_text("?");
    session.evaluate();
    return session.report();
  };
  EXPECT_EQ(report(true, "").tokens_approximate, 0u);
  EXPECT_EQ(report(true, "x").tokens_approximate, 20u);
  EXPECT_EQ(report(false, "").tokens_approximate, 20u) << "the anchor is missing in front of it";
  tsr::Session shared(context, repair(TSR_REPAIR_NONE)), whole(context, repair(TSR_REPAIR_FULL));
  for (tsr::Session* session : {&shared, &whole}) {
    session->add_anchor();
    session->add_chunk(a);
    session->add_chunk(b);
    session->add_text("and then?");
  }
  const std::vector<float> approximate = shared.evaluate(), exact = whole.evaluate();
  EXPECT_GT(largest_difference(approximate, exact), 1e-4f) << "nothing was approximated";
  EXPECT_EQ(shared.report().tokens_approximate, 20u);
  expect_report(shared, shared.info().tokens);
  EXPECT_EQ(whole.report().tokens_approximate, 0u);
  expect_report(whole, whole.info().tokens);
  EXPECT_EQ(shared.tokens(), whole.tokens());
}

// In a model of one layer keys and values depend on token and position alone, so that a chunk is
// the same wherever it stands: any difference would be one of position.
TEST_P(Chunks, KeysTurnWithTheirPlace) {
  const TempFolder folder;
  TinyModel tiny;
  tiny.layers = 1;
  write_tiny_model(folder.file("one_layer.gguf"), tiny);
  const tsr::Model model = load_model(GetParam(), folder.file("one_layer.gguf"));
  tsr::ContextOptions options = small();
  options.kv_type = TSR_KV_F32;
  options.set_anchor(kAnchor);
  options.flags = 0;
  options.set_primer("primer");
  const tsr::Context context(model, options);
  const tsr::Chunk a(context, digits(20, 1)), b(context, digits(13, 2));
  for (const uint64_t front : {0u, 1u, 8u, 300u}) {
    tsr::Session shared(context, repair(TSR_REPAIR_NONE)), whole(context, repair(TSR_REPAIR_FULL));
    for (tsr::Session* session : {&shared, &whole}) {
      session->add_anchor();
      session->add_text(digits(front, 3));
      session->add_chunk(a);
      session->add_chunk(b);
      session->add_text("then?");
    }
    EXPECT_LT(largest_difference(shared.evaluate(), whole.evaluate()), 1e-4f) << front;
    EXPECT_EQ(shared.report().tokens_approximate, 33u);
  }
}

TEST_P(Chunks, WithoutAnchorAChunkIsExactAtTheBeginning) {
  const tsr::Context context = this->context();
  const tsr::Chunk chunk(context, digits(20, 1));
  tsr::Session session(context), whole(context, repair(TSR_REPAIR_FULL));
  for (tsr::Session* s : {&session, &whole}) {
    s->add_chunk(chunk);
    s->add_text("?");
  }
  EXPECT_EQ(session.evaluate(), whole.evaluate());
  EXPECT_EQ(session.report().tokens_exact, 20u);
}

TEST_P(Chunks, AfterAPrimerEveryPlaceIsApproximate) {
  const std::string primer = "plain words of the usual kind";
  const tsr::Context context = anchored(primer), unprimed = anchored();
  const tsr::Chunk chunk(context, digits(20, 1)), other(unprimed, digits(20, 1));
  const std::vector<float> logits = ask(context, chunk, repair(TSR_REPAIR_NONE));
  EXPECT_GT(largest_difference(logits, ask(context, chunk, repair(TSR_REPAIR_FULL))), 1e-4f);
  EXPECT_EQ(ask(context, chunk, repair(TSR_REPAIR_FULL)),
            ask(unprimed, other, repair(TSR_REPAIR_FULL)));
  EXPECT_NE(std::make_pair(chunk.info().identity[0], chunk.info().identity[1]),
            std::make_pair(other.info().identity[0], other.info().identity[1]));
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  const uint64_t anchor = anchor_tokens(session);
  session.add_chunk(chunk);
  session.add_text("?");
  EXPECT_EQ(session.evaluate(), logits);
  EXPECT_EQ(session.report().tokens_exact, anchor);
  EXPECT_EQ(session.report().tokens_approximate, 20u);
  // The primer is computed once for all chunks, and only the chunk's slice is kept.
  const uint64_t before = context.metrics().computed_tokens;
  const tsr::Chunk second(context, digits(9, 2));
  EXPECT_TRUE(second.wait());
  EXPECT_EQ(context.metrics().computed_tokens - before, 9u);
  EXPECT_EQ(second.info().bytes, 2 * context.metrics().page_bytes);
}

TEST_P(Chunks, TwoCreatorsOneEncoding) {
  const tsr::Context context = this->context();
  const std::string text = digits(30, 1);
  const tsr::Chunk a(context, text), b(context, text);
  EXPECT_TRUE(a.wait());
  EXPECT_TRUE(b.wait());
  const tsr::Chunk c(context, text);
  EXPECT_EQ(c.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(c.info().tokens, 30u);
  EXPECT_EQ(c.info().bytes, 4 * context.metrics().page_bytes);
  const tsr::Metrics m = context.metrics();
  EXPECT_EQ(m.computed_tokens, 30u);
  EXPECT_EQ(m.chunks, 1u);
  EXPECT_EQ(m.chunk_misses, 1u);
  EXPECT_EQ(m.chunk_hits, 2u);
}

TEST_P(Chunks, LazyOnesWaitUntilTheyAreNeeded) {
  const tsr::Context context = this->context();
  const tsr::Chunk waited(context, digits(10, 1), lazy()), used(context, digits(10, 2), lazy());
  EXPECT_EQ(waited.info().state, TSR_CHUNK_ABSENT);
  EXPECT_EQ(waited.info().bytes, 0u);
  EXPECT_EQ(context.metrics().steps, 0u);
  EXPECT_TRUE(waited.wait());
  EXPECT_EQ(waited.info().state, TSR_CHUNK_READY);
  tsr::Session session(context);
  session.add_chunk(used);
  session.add_text("?");
  EXPECT_EQ(used.info().state, TSR_CHUNK_ABSENT) << "adding computes nothing";
  generate(session, greedy(2));
  EXPECT_EQ(used.info().state, TSR_CHUNK_READY);
  EXPECT_EQ(used.info().uses, 1u);
  EXPECT_EQ(waited.info().uses, 0u);
}

// One chunk at two places at the same time, and in two sessions at the same place.
TEST_P(Chunks, SharedAtTwoPlacesAtOnce) {
  const auto build = [](const tsr::Context& context, const tsr::Chunk& chunk, int kind) {
    tsr::Session session(context);
    session.add_anchor();
    if (kind == 1) session.add_text("something in front of it");
    session.add_chunk(chunk);
    session.add_text("so?");
    return session;
  };
  std::vector<std::vector<int32_t>> alone;
  for (const int kind : {0, 1, 0}) {
    const tsr::Context context = anchored();
    const tsr::Chunk chunk(context, digits(33, 1));
    tsr::Session session = build(context, chunk, kind);
    alone.push_back(generate(session, greedy(12)));
  }
  const tsr::Context context = anchored();
  const tsr::Chunk chunk(context, digits(33, 1), lazy());
  std::vector<tsr::Session> sessions;
  for (const int kind : {0, 1, 0}) sessions.push_back(build(context, chunk, kind));
  for (tsr::Session& session : sessions) session.generate(greedy(12));
  for (size_t i = 0; i < sessions.size(); ++i) {
    read(sessions[i]);
    std::vector<int32_t> tokens = sessions[i].tokens();
    EXPECT_TRUE(std::equal(tokens.end() - 12, tokens.end(), alone[i].begin())) << i;
  }
  EXPECT_EQ(chunk.info().uses, 3u);
  expect_idle(context);
  engine::ContextProbe probe(context.get());
  std::set<const kv::Block*> pages;
  for (const tsr::Session& session : sessions) {
    for (const engine::Segment& segment : probe.segments(session.get())) {
      if (segment.kind != engine::SegmentKind::shared) continue;
      for (const kv::BlockRef& block : segment.span.blocks) pages.insert(block.get());
    }
  }
  EXPECT_EQ(pages.size(), 5u) << "33 tokens, once";
}

TEST_P(Chunks, TheSameChunkTwiceInOneSession) {
  const tsr::Context context = anchored();
  const tsr::Chunk chunk(context, digits(12, 1));
  tsr::Session session(context, repair(TSR_REPAIR_NONE));
  const uint64_t anchor = anchor_tokens(session);
  session.add_chunk(chunk);
  session.add_chunk(chunk);
  session.add_text("?");
  generate(session, greedy(5));
  expect_report(session, anchor + 25);
  EXPECT_EQ(session.report().tokens_exact, anchor + 12);
  EXPECT_EQ(session.report().tokens_approximate, 12u);
  EXPECT_EQ(chunk.info().uses, 2u);
  expect_idle(context);
}

// Nothing behind the chunk: its last token is computed again, in a page of the session's own. For
// chunks that end anywhere in a page, ready and not, once and again.
TEST_P(Chunks, AChunkMayComeLast) {
  const tsr::Context context = anchored();
  engine::ContextProbe probe(context.get());
  for (const uint64_t length : {1u, 2u, 7u, 8u, 9u, 16u, 17u}) {
    for (const bool ready : {false, true}) {
      SCOPED_TRACE(std::to_string(length) + (ready ? ", ready" : ", not ready"));
      const tsr::Chunk chunk(context, digits(length, ready ? 1 : 2), lazy());
      if (ready) chunk.wait();
      const auto before = probe.bytes_of(chunk.get());
      tsr::Session whole(context, repair(TSR_REPAIR_FULL)), session(context);
      for (tsr::Session* s : {&whole, &session}) {
        s->add_anchor();
        s->add_chunk(chunk);
      }
      const std::vector<float> wanted = whole.evaluate();
      const uint64_t prompt = session.info().tokens;
      EXPECT_LT(largest_difference(session.evaluate(), wanted), 1e-4f);
      expect_report(session, prompt);
      EXPECT_EQ(session.report().tokens_computed, 1u);
      EXPECT_EQ(session.report().tokens_exact, prompt - 1);
      EXPECT_EQ(probe.check(), "");
      EXPECT_LT(largest_difference(session.evaluate(), wanted), 1e-4f);
      EXPECT_EQ(generate(session, greedy(9)), generate(whole, greedy(9)));
      EXPECT_EQ(session.tokens(), whole.tokens());
      session.add_text("?");
      EXPECT_EQ(generate(session, greedy(3)).size(), 3u);
      if (ready) {
        EXPECT_EQ(probe.bytes_of(chunk.get()), before) << "a shared page was written";
      }
      expect_idle(context);
    }
  }
  expect_only_caches(context);
}

// ... also behind text that is still to be computed, ready or not: what the session computes is the
// text and the chunk's last token, whose logits count.
TEST_P(Chunks, AChunkMayComeLastBehindText) {
  std::vector<float> first;
  for (const bool ready : {true, false}) {
    const tsr::Context context = anchored();
    const tsr::Chunk chunk(context, digits(60, 1), lazy());
    if (ready) chunk.wait();
    tsr::Session session(context, repair(TSR_REPAIR_NONE)), without(context);
    const uint64_t anchor = anchor_tokens(session);
    session.add_text(digits(5, 2));
    session.add_chunk(chunk);
    const std::vector<float> logits = session.evaluate();
    expect_report(session, anchor + 65);
    EXPECT_EQ(session.report().tokens_computed, 6u);
    EXPECT_EQ(session.report().tokens_approximate, 59u);
    without.add_anchor();
    without.add_text(digits(5, 2));
    EXPECT_NE(without.evaluate(), logits) << "logits of the text, not of the chunk";
    if (first.empty()) first = logits;
    EXPECT_EQ(logits, first);
    // A second turn that ends with the chunk: the answer's last token is still to be computed too.
    tsr::Session turns(context, repair(TSR_REPAIR_NONE));
    turns.add_text(digits(3, 3));
    generate(turns, greedy(4));
    turns.add_chunk(chunk);
    turns.evaluate();
    EXPECT_EQ(turns.report().tokens_computed, 2u);
    expect_idle(context);
  }
}

TEST_P(Chunks, SharedPagesAreNeverWritten) {
  const tsr::Context context = anchored();
  engine::ContextProbe probe(context.get());
  const tsr::Chunk a(context, digits(21, 1)), b(context, digits(8, 2));
  ASSERT_TRUE(a.wait());
  ASSERT_TRUE(b.wait());
  const auto before_a = probe.bytes_of(a.get()), before_b = probe.bytes_of(b.get());
  EXPECT_EQ(before_a.size(), 3u);
  for (int round = 0; round < 4; ++round) {
    std::vector<tsr::Session> sessions;
    for (int i = 0; i < 4; ++i) {
      sessions.emplace_back(context);
      sessions.back().add_anchor();
      sessions.back().add_chunk(i % 2 == 0 ? a : b);
      if (i > 1) sessions.back().add_text("in between");
      sessions.back().add_chunk(i % 2 == 0 ? b : a);
      if (round % 2 == 0) sessions.back().add_text("?");
      sessions.back().generate(drawn(6, static_cast<uint64_t>(i)));
    }
    for (tsr::Session& session : sessions) read(session);
  }
  wait_until_idle(context);
  EXPECT_EQ(probe.bytes_of(a.get()), before_a);
  EXPECT_EQ(probe.bytes_of(b.get()), before_b);
}

TEST_P(Chunks, SessionsKeepChunksAlive) {
  const tsr::Context context = this->context();
  tsr::Session session(context);
  {
    const tsr::Chunk chunk(context, digits(12, 1), lazy());
    session.add_chunk(chunk);
  }
  session.add_text("?");
  EXPECT_EQ(generate(session, greedy(3)).size(), 3u);
  EXPECT_EQ(session.tokens().size(), 12 + 1 + 3u);
}

TEST_P(Chunks, TooLongOnesAreRefused) {
  tsr::ContextOptions options = small(4);
  options.max_session_tokens = 100;
  const tsr::Context context = this->context(options);
  std::string message;
  EXPECT_EQ(status_of([&] { tsr::Chunk(context, digits(101, 1)); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find("101"), std::string::npos) << message;
  EXPECT_EQ(status_of([&] { tsr::Chunk(context, digits(33, 1)); }, &message), TSR_CAPACITY);
  EXPECT_NE(message.find(std::to_string(5 * context.metrics().page_bytes)), std::string::npos)
      << message;
  EXPECT_EQ(status_of([&] { tsr::Chunk(context, ""); }), TSR_INVALID_ARGUMENT);
  const tsr::Chunk fits(context, digits(32, 1));
  EXPECT_TRUE(fits.wait());
}

}  // namespace
}  // namespace tessera::test
