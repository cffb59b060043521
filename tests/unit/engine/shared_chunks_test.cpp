// Many sessions at once behind the same chunks: each has the bits that it has alone, whatever the
// others repaired, selected, hid and placed elsewhere.
#include <cstring>

#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

class SharedChunks : public EngineTest {};
TESSERA_ON_EACH_DEVICE(SharedChunks);

constexpr uint64_t kSessions = 64;
constexpr uint64_t kLengths[] = {130, 75, 20};

tsr::ContextOptions options_of(uint32_t threads, uint32_t step) {
  tsr::ContextOptions options = small(4096);
  options.threads = threads;
  options.max_step_tokens = step;
  options.set_anchor("<|im_start|>the anchor");
  return options;
}

// All dials, shares of selected tokens and lengths of heads; chunks in several orders, behind texts
// of several lengths, one of them twice.
tsr::Session make(const tsr::Context& context, const std::vector<tsr::Chunk>& chunks, uint64_t i) {
  constexpr tsr_repair kModes[] = {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_SELECT,
                                   TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL};
  tsr::SessionOptions options = repair(kModes[i % 5]);
  options.head_tokens = static_cast<uint32_t>(3 + i % 4 * 5);
  options.select_share = i % 3 == 0 ? 0.05f : 0.2f;
  options.select_layers = 1;
  tsr::Session session(context, options);
  if (i % 2 == 0) session.add_anchor();
  if (i % 7 > 3) session.add_text(digits(i % 7 * 3, i % 4));
  for (uint64_t c = 0; c < chunks.size(); ++c) {
    session.add_chunk(chunks[(i % 4 == 3 ? i + c : c) % chunks.size()]);
  }
  if (i % 8 == 5) session.add_chunk(chunks[1]);
  session.add_text("what? " + digits(1 + i % 6, i));
  return session;
}

std::vector<tsr::Chunk> make_chunks(const tsr::Context& context) {
  std::vector<tsr::Chunk> chunks;
  for (const uint64_t length : kLengths) chunks.emplace_back(context, digits(length, length));
  return chunks;
}

tsr::GenerateOptions answer(uint64_t i) {
  tsr::GenerateOptions options = i % 2 ? drawn(12, i) : greedy(12);
  options.logprobs = 4;
  return options;
}

// The tokens of an answer, all its log-probabilities, the logits behind it.
struct Made {
  std::vector<int32_t> tokens;
  std::vector<float> numbers;

  bool operator==(const Made& other) const {
    return tokens == other.tokens && numbers.size() == other.numbers.size() &&
           std::memcmp(numbers.data(), other.numbers.data(), numbers.size() * sizeof(float)) == 0;
  }
};

Made made(tsr::Session& session) {
  const Answer answer = read(session);
  EXPECT_EQ(answer.status, TSR_OK) << answer.message;
  Made made = {session.tokens(), {}};
  for (const Told& told : answer.told) {
    made.numbers.push_back(told.logprob);
    for (const tsr_token_logprob& other : told.top) made.numbers.push_back(other.logprob);
  }
  const std::vector<float> logits = session.evaluate();
  made.numbers.insert(made.numbers.end(), logits.begin(), logits.end());
  return made;
}

TEST_P(SharedChunks, SixtyFourHaveTheBitsOfEachAlone) {
  std::vector<Made> alone;
  for (uint64_t i = 0; i < kSessions; ++i) {  // nothing of the others is even in the caches
    const tsr::Context context = this->context(options_of(1, 32));
    tsr::Session session = make(context, make_chunks(context), i);
    session.generate(answer(i));
    alone.push_back(made(session));
  }
  EXPECT_FALSE(alone[0] == alone[2]);
  for (const auto& [threads, step] : {std::pair{1u, 128u}, {2u, 64u}, {3u, 10u}, {2u, 0u}}) {
    const tsr::Context context = this->context(options_of(threads, step));
    const std::vector<tsr::Chunk> chunks = make_chunks(context);
    std::vector<tsr::Session> sessions;
    for (uint64_t i = 0; i < kSessions; ++i) {
      sessions.push_back(make(context, chunks, i));
    }
    for (uint64_t i = 0; i < kSessions; ++i) sessions[i].generate(answer(i));
    for (uint64_t i = 0; i < kSessions; ++i) {
      EXPECT_TRUE(made(sessions[i]) == alone[i])
          << "session " << i << ", " << threads << " threads, steps of " << step;
    }
    expect_idle(context);
  }
}

}  // namespace
}  // namespace tessera::test
