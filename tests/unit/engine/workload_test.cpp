// Random work within a budget of a few pages, against sessions that have all the room they want.
#include <iostream>
#include <optional>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

constexpr size_t kSessions = 5, kChunks = 4;

// What is done to the small context is done to the large one as well, once it is known to have
// worked. The large one answers each request alone.
class Workload {
 public:
  Workload(tsr::Model& model, uint64_t seed)
      : random_(seed), small_(model, options(40)), large_(model, options(20'000)) {
    for (uint64_t i = 0; i < kChunks; ++i) texts_.push_back(digits(3 + 7 * i, 1000 + i));
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("operation " + std::to_string(i));
      step();
      EXPECT_EQ(engine::ContextProbe(small_.get()).check(), "");
      const tsr::Metrics m = small_.metrics();
      EXPECT_LE(m.pages_used, m.pages_total);
      if (i % 10 == 9) settle();
    }
    settle();
    for (Pair& pair : pairs_) pair = {};
    for (auto& chunk : chunks_) chunk = {};
    for (const tsr_chunk_id& id : small_.chunks()) tsr::Chunk::open(small_, id).pin(false);
    expect_only_caches(small_);
  }

  int answers() const { return answers_; }
  int refusals() const { return refusals_; }

 private:
  struct Pair {
    std::optional<tsr::Session> tight, roomy;
    uint32_t wanted = 0;  // tokens of the answer under way; 0: none
    size_t before = 0;    // tokens when it began
  };

  static tsr::ContextOptions options(uint64_t pages) {
    tsr::ContextOptions options = tessera::test::small(pages);
    static const std::string anchor = "<|im_start|>the anchor";
    options.set_anchor(anchor);
    options.max_session_tokens = 180;
    return options;
  }

  // A call that may find no room. Whether it worked.
  template <typename Call>
  bool attempt(Call call) {
    std::string message;
    const tsr_status status = status_of(call, &message);
    if (status == TSR_CAPACITY) ++refusals_;
    EXPECT_TRUE(status == TSR_OK || status == TSR_CAPACITY) << message;
    return status == TSR_OK;
  }

  void create(Pair& pair) {
    tsr::SessionOptions options;
    options.repair = static_cast<tsr_repair>(random_.below(TSR_REPAIR_FULL + 1));
    options.head_tokens = static_cast<uint32_t>(random_.below(20));
    options.select_share = static_cast<float>(random_.below(5)) / 10;
    if (random_.one_in(4)) options.flags = TSR_SESSION_RESELECT;
    if (random_.one_in(3)) options.event_capacity = 1;
    pair.tight.emplace(small_, options);
    options.event_capacity = 0;
    pair.roomy.emplace(large_, options);
    if (random_.one_in(2)) {
      pair.tight->add_anchor();
      pair.roomy->add_anchor();
    }
  }

  void add(Pair& pair) {
    if (random_.one_in(2)) {
      const std::string text = digits(1 + random_.below(20), random_.below(4));
      if (attempt([&] { pair.tight->add_text(text); })) pair.roomy->add_text(text);
      return;
    }
    const size_t index = random_.below(kChunks);
    tsr::ChunkOptions options;
    options.flags = random_.one_in(2) ? TSR_CHUNK_LAZY : 0;
    if (!chunks_[index]) chunks_[index].emplace(small_, texts_[index], options);
    const tsr::Chunk chunk(large_, texts_[index]);
    if (attempt([&] { pair.tight->add_chunk(*chunks_[index]); })) pair.roomy->add_chunk(chunk);
  }

  void generate(Pair& pair) {
    pair.before = pair.tight->info().tokens;
    if (pair.before == 0) return;
    const auto count = static_cast<uint32_t>(1 + random_.below(24));
    tsr::GenerateOptions options = greedy(count);
    options.lookup_tokens = static_cast<uint32_t>(random_.below(10));  // roomy ones never draft
    if (attempt([&] { pair.tight->generate(options); })) {
      pair.wanted = count;
    } else if (random_.one_in(2)) {
      pair = {};  // makes room
    }
  }

  // Reads the answer under way and asks the roomy session for the same number of tokens.
  void finish(Pair& pair, bool cancel) {
    if (cancel) pair.tight->cancel();
    const Answer answer = read(*pair.tight);
    // Two sessions may need chunks for which only one of them finds room; nothing else may fail.
    EXPECT_EQ(answer.status, TSR_OK) << answer.message;
    EXPECT_EQ(pair.tight->info().tokens, pair.before + answer.tokens);
    if (answer.finish == TSR_FINISH_LENGTH) {
      EXPECT_EQ(answer.tokens, pair.wanted);
      expect_report(*pair.tight, pair.before);
    }
    pair.wanted = 0;
    if (answer.tokens == 0) {
      // Where it got to before the cancel shows later: the last token of a chunk that was last may
      // have been computed in place. Nobody can do the same to the roomy session.
      EXPECT_EQ(answer.finish, TSR_FINISH_CANCELLED);
      pair = {};
      return;
    }
    pair.roomy->generate(greedy(static_cast<uint32_t>(answer.tokens)));
    read(*pair.roomy);
    EXPECT_EQ(pair.tight->tokens(), pair.roomy->tokens());
    ++answers_;
  }

  // Of a chunk that is there, whoever created it.
  void keep_or_drop() {
    const std::vector<tsr_chunk_id> ids = small_.chunks();
    if (ids.empty()) return;
    const tsr::Chunk chunk = tsr::Chunk::open(small_, ids[random_.below(ids.size())]);
    const tsr::ChunkInfo before = chunk.info();
    if (random_.one_in(2)) {
      const tsr_status status = status_of([&] { chunk.drop(); });
      EXPECT_TRUE(status == TSR_OK || status == TSR_BUSY);
      EXPECT_TRUE(status != TSR_OK || chunk.info().bytes == 0);
      EXPECT_TRUE(status == TSR_BUSY || before.sessions == 0);
    } else if (before.pinned) {
      chunk.pin(false);
    } else if (small_.metrics().pages_pinned < 4) {
      attempt([&] { chunk.pin(); });
    }
  }

  void step() {
    Pair& pair = pairs_[random_.below(kSessions)];
    const uint64_t kind = random_.below(13);
    if (kind == 0) {
      chunks_[random_.below(kChunks)].reset();
    } else if (kind == 11) {
      keep_or_drop();
    } else if (!pair.tight) {
      create(pair);
    } else if (pair.wanted > 0) {
      if (kind == 1) {
        pair = {};  // in the middle of an answer
      } else if (kind > 3) {
        finish(pair, kind == 4);
      }
    } else if (kind == 1) {
      pair = {};
    } else if (kind < 7) {
      add(pair);
    } else {
      generate(pair);
    }
  }

  // Everything that runs is read: pages are the sessions' or the caches'.
  void settle() {
    for (Pair& pair : pairs_) {
      if (pair.wanted > 0) finish(pair, false);
    }
    expect_idle(small_);
  }

  Random random_;
  tsr::Context small_, large_;
  std::vector<std::string> texts_;
  std::optional<tsr::Chunk> chunks_[kChunks];
  Pair pairs_[kSessions];
  int answers_ = 0, refusals_ = 0;
};

class RandomWork : public EngineTest {};
TESSERA_ON_EACH_DEVICE(RandomWork);
class FullRandomWork : public EngineTest {};
TESSERA_ON_EACH_DEVICE(FullRandomWork);

void run(tsr::Model& model, uint64_t seed, int operations) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  Workload workload(model, seed);
  workload.run(operations);
  if (testing::Test::HasFailure()) return;
  EXPECT_GT(workload.answers(), operations / 10) << "the work was too hard";
  EXPECT_GT(workload.refusals(), operations / 100) << "the work was too easy";
  std::cout << workload.answers() << " answers, " << workload.refusals() << " refusals\n";
}

TEST_P(RandomWork, ThreeHundredOperations) {
  for (uint64_t seed = 1; seed < 4; ++seed) run(model(), seed, 300);
}

TEST_P(FullRandomWork, ManyOperations) {
  for (uint64_t seed = 4; seed < 24; ++seed) run(model(), seed, 1000);
}

}  // namespace
}  // namespace tessera::test
