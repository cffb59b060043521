// Random sessions that are added to, answer, fork, are taken back, saved and restored, against
// sessions that were told the story as it ended.
#include <algorithm>
#include <optional>

#include "tests/fuzz/random.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

constexpr size_t kSessions = 4, kChunks = 4;

// What a session was told: a text, a chunk or the beginning of it, or that it was asked something.
struct Piece {
  enum Kind { text, chunk, asked } kind = asked;
  std::vector<int32_t> tokens;  // text
  bool answer = false;
  size_t index = 0;     // chunk
  uint64_t length = 0;  // tokens
};

using Story = std::vector<Piece>;

uint64_t length_of(const Story& story) {
  uint64_t tokens = 0;
  for (const Piece& piece : story) tokens += piece.length;
  return tokens;
}

// As far as token `place`; of a question that was asked there nothing is left.
Story cut(const Story& story, uint64_t place) {
  Story kept;
  for (Piece piece : story) {
    if (place == 0) break;
    piece.length = std::min(piece.length, place);
    if (piece.kind == Piece::text) piece.tokens.resize(piece.length);
    place -= piece.length;
    kept.push_back(std::move(piece));
  }
  return kept;
}

class Stories {
 public:
  Stories(tsr::Model& model, uint64_t seed, tsr_repair mode)
      : random_(seed),
        model_(model),
        selects_(mode == TSR_REPAIR_SELECT || mode == TSR_REPAIR_HEAD_SELECT),
        session_options_(repair(mode)),
        context_(model, options()) {
    session_options_.head_tokens = 5;
    session_options_.select_share = 0.2f;
    for (uint64_t i = 0; i < kChunks; ++i) {
      texts_.push_back(digits(3 + 9 * i, 1000 + i));
      lengths_.push_back(model.tokenize(texts_[i]).size());
    }
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE("operation " + std::to_string(i));
      step();
      EXPECT_EQ(engine::ContextProbe(context_.get()).check(), "");
    }
    expect_idle(context_);
    for (Told& told : told_) told = {};
    expect_only_caches(context_);
  }

  int compared() const { return compared_; }

 private:
  struct Told {
    std::optional<tsr::Session> session;
    Story story;
  };

  static tsr::ContextOptions options() {
    tsr::ContextOptions options = small(2000);
    static const std::string anchor = "<|im_start|>the anchor";
    options.set_anchor(anchor);
    options.max_session_tokens = 300;
    return options;
  }

  void add_text(Told& told, std::vector<int32_t> tokens, bool answer) {
    const uint64_t length = tokens.size();
    told.story.push_back({Piece::text, std::move(tokens), answer, 0, length});
  }

  void add(Told& told) {
    if (length_of(told.story) > 200) return rewind(told);
    if (random_.one_in(2)) {
      const std::string text = digits(1 + random_.below(20), random_.below(4));
      told.session->add_text(text);
      add_text(told, model_.tokenize(text), false);
    } else {
      const size_t index = random_.below(kChunks);
      told.session->add_chunk(tsr::Chunk(context_, texts_[index]));
      told.story.push_back({Piece::chunk, {}, false, index, lengths_[index]});
    }
  }

  void ask(Told& told) {
    if (told.story.empty()) return;
    told.story.push_back({});
    if (random_.one_in(3)) {
      told.session->evaluate();
      return;
    }
    tsr::GenerateOptions options = greedy(static_cast<uint32_t>(1 + random_.below(12)));
    options.lookup_tokens = static_cast<uint32_t>(random_.below(5));
    add_text(told, generate(*told.session, options), true);
  }

  // Anywhere; where questions select, in front of chunks and behind answers: what is left of a
  // question was selected for by all of it, and that cannot be told from the start.
  void rewind(Told& told) {
    std::vector<uint64_t> places;
    uint64_t at = 0;
    for (const Piece& piece : told.story) {
      if (!selects_ || piece.kind == Piece::chunk) places.push_back(at);
      at += piece.length;
      if (piece.answer) places.push_back(at);
    }
    if (!selects_) places.push_back(random_.below(at + 1));
    if (places.empty()) return;
    const uint64_t place = places[random_.below(places.size())];
    if (place == at) return;
    told.session->rewind(place);
    EXPECT_EQ(told.session->info().tokens, place);
    told.story = cut(told.story, place);
  }

  // Tells the story as it ended, elsewhere.
  void compare(const Told& told) {
    const tsr::Context other(model_, options());
    tsr::Session fresh(other, session_options_);
    for (const Piece& piece : told.story) {
      if (piece.kind == Piece::text) fresh.add_tokens(piece.tokens);
      if (piece.kind == Piece::asked) fresh.evaluate();
      if (piece.kind != Piece::chunk) continue;
      fresh.add_chunk(tsr::Chunk(other, texts_[piece.index]));
      fresh.rewind(fresh.info().tokens - lengths_[piece.index] + piece.length);
    }
    EXPECT_EQ(fresh.tokens(), told.session->tokens());
    tsr::Session asked = told.session->fork();
    for (tsr::Session* s : {&fresh, &asked}) s->add_text("?");
    EXPECT_EQ(asked.evaluate(), fresh.evaluate());
    expect_report(asked, asked.info().tokens);
    ++compared_;
  }

  void step() {
    Told& told = told_[random_.below(kSessions)];
    const uint64_t kind = random_.below(16);
    if (!told.session) {
      told.session.emplace(context_, session_options_);
    } else if (kind < 5) {
      add(told);
    } else if (kind < 8) {
      ask(told);
    } else if (kind < 10) {
      rewind(told);
    } else if (kind < 12) {
      Told& other = told_[random_.below(kSessions)];
      if (&other == &told) return;
      other.session.emplace(told.session->fork());
      other.story = told.story;
    } else if (kind < 14) {
      const std::vector<uint8_t> bytes = told.session->save();
      if (random_.one_in(2)) told.session.reset();
      told.session.emplace(tsr::Session::restore(context_, bytes));
    } else if (kind == 14) {
      told = {};
    } else {
      compare(told);
    }
  }

  Random random_;
  tsr::Model& model_;
  bool selects_;
  tsr::SessionOptions session_options_;
  tsr::Context context_;
  std::vector<std::string> texts_;
  std::vector<uint64_t> lengths_;
  Told told_[kSessions];
  int compared_ = 0;
};

class RandomStories : public EngineTest {};
TESSERA_ON_EACH_DEVICE(RandomStories);
class FullRandomStories : public EngineTest {};
TESSERA_ON_EACH_DEVICE(FullRandomStories);

void run(tsr::Model& model, uint64_t seed, int operations) {
  for (const tsr_repair mode : {TSR_REPAIR_NONE, TSR_REPAIR_HEAD, TSR_REPAIR_SELECT,
                                TSR_REPAIR_HEAD_SELECT, TSR_REPAIR_FULL}) {
    SCOPED_TRACE("repair " + std::to_string(mode) + ", seed " + std::to_string(seed));
    Stories stories(model, seed, mode);
    stories.run(operations);
    if (testing::Test::HasFailure()) return;
    EXPECT_GT(stories.compared(), operations / 40);
  }
}

TEST_P(RandomStories, AFewHundredOperations) {
  for (uint64_t seed = 1; seed < 3; ++seed) run(model(), seed, 250);
}

TEST_P(FullRandomStories, ManyOperations) {
  for (uint64_t seed = 3; seed < 23; ++seed) run(model(), seed, 1000);
}

}  // namespace
}  // namespace tessera::test
