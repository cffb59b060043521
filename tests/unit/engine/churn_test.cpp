// A thousand sessions that come and go at every stage of their lives, and what is left of them.
#include <array>
#include <optional>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

constexpr uint64_t kSessions = 1000;
constexpr uint64_t kAtOnce = 24;  // sessions that live at one time
constexpr uint64_t kPages = 1024;

// What a session was at when it was dropped.
enum Stage { idle, with_text, with_chunks, reading_prompt, decoding, answered, stages };

class Churn : public EngineTest {
 protected:
  // Puts the session into the stage; the stage that it reached.
  static Stage bring(const tsr::Context& context, tsr::Session& session, Stage stage,
                     uint64_t seed) {
    if (stage == idle) return idle;
    if (seed % 2 == 0 || stage == with_chunks) {
      tsr::ChunkOptions options;
      options.flags = seed % 3 == 0 ? TSR_CHUNK_LAZY : 0;
      session.add_chunk(tsr::Chunk(context, digits(9 + seed % 3 * 8, seed % 5), options));
    }
    session.add_text(stage == reading_prompt ? digits(300, seed)
                                             : digits(10 + seed % 9, seed % 50));
    if (stage == with_text || stage == with_chunks) return stage;
    if (stage == answered) {
      EXPECT_EQ(generate(session, drawn(4, seed)).size(), 4u);
      return answered;
    }
    session.generate(greedy(60));  // more than the event queue holds: it pauses there at the latest
    const auto event = session.next(60'000);
    EXPECT_TRUE(event);
    const bool prompting =
        event && event->kind == TSR_EVENT_PROGRESS && event->processed < event->total;
    if (stage == decoding) {
      while (session.next(60'000)->kind == TSR_EVENT_PROGRESS) continue;
    }
    return stage == decoding || !prompting ? decoding : reading_prompt;
  }

  static std::vector<float> answer(const tsr::Context& context) {
    tsr::Session session(context);
    session.add_chunk(tsr::Chunk(context, digits(20, 99)));
    session.add_text("and a question");
    generate(session, greedy(20));
    return session.evaluate();
  }
};
TESSERA_ON_EACH_DEVICE(Churn);

TEST_P(Churn, AThousandSessions) {
  const tsr::Context context = this->context(small(kPages));
  const std::vector<float> before = answer(context);
  std::array<uint64_t, stages> dropped{};
  Random random(1);
  {
    tsr::SessionOptions narrow;
    narrow.event_capacity = 4;
    std::array<std::optional<tsr::Session>, kAtOnce> sessions;
    for (uint64_t i = 0; i < kSessions; ++i) {
      std::optional<tsr::Session>& session = sessions[random.below(kAtOnce)];
      session.emplace(context, narrow);
      ++dropped[bring(context, *session, static_cast<Stage>(i % stages), i)];
      if (i % 100 == 0) {
        EXPECT_EQ(engine::ContextProbe(context.get()).check(), "");
      }
    }
  }
  for (const uint64_t count : dropped) EXPECT_GT(count, kSessions / stages / 4);
  expect_only_caches(context);
  EXPECT_EQ(answer(context), before);
  expect_only_caches(context);

  // Whatever the caches hold can be had again, to the last page.
  tsr::Session all(context);
  all.add_text(digits(16, 7));
  all.generate(greedy(kPages * 8 - 16));
  all.cancel();
  EXPECT_EQ(read(all).finish, TSR_FINISH_CANCELLED);
  all.reset();
  expect_only_caches(context);
}

}  // namespace
}  // namespace tessera::test
