// What must not change a bit on the CPU: who else computes, on how many threads, in which slices,
// where KV came from, how layers are grouped. Holds in both math modes and for every KV type.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/quality/page_watch.hpp"
#include "tests/quality/subjects.hpp"

namespace tessera::test {
namespace {

using engine::Repair;

struct Mode {
  std::string model;
  MathMode math;
  KvType kv_type;
};

class SameBits : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    model_ = subject(GetParam().model, GetParam().math);
    if (!model_) GTEST_SKIP() << "the default model is not in models/; ./dev test downloads it";
    parts_ = material(*model_, GetParam().model);
  }

  bool tiny() const { return GetParam().model == "tiny"; }
  engine::ContextOptions options() const {
    engine::ContextOptions options = exact_options();
    options.kv_type = GetParam().kv_type;
    return options;
  }
  // Prefill of plain text, and of chunks behind text as encoded and repaired, with what the
  // question chose.
  struct Results {
    std::vector<float> text, encoded, repaired;
    std::vector<uint32_t> chosen;
  };
  Results results(const engine::ContextOptions& with) {
    EngineRig rig(model_, with);
    engine::SessionOptions dial;
    dial.repair = Repair::head_select;
    Results results;
    results.text = rig.logits(parts_.all());
    results.encoded = rig.behind(parts_.pieces(), parts_.question);
    results.repaired =
        rig.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &results.chosen);
    return results;
  }
  static bool same(const Results& a, const Results& b) {
    return same_bits(a.text, b.text) && same_bits(a.encoded, b.encoded) &&
           same_bits(a.repaired, b.repaired) && a.chosen == b.chosen && !a.chosen.empty();
  }

  // Steps of these, each beside those of one thread and 64 tokens.
  struct Steps {
    uint32_t threads, tokens;
  };
  void compare(std::initializer_list<Steps> all) {
    const auto rows_of = [this](const Steps& steps) {
      engine::ContextOptions with = options();
      with.threads = steps.threads;
      with.max_step_tokens = steps.tokens;
      return results(with);
    };
    const Results baseline = rows_of({1, 64});
    for (const Steps& steps : all) {
      EXPECT_TRUE(same(rows_of(steps), baseline))
          << steps.threads << " threads, steps of " << steps.tokens << " tokens";
    }
  }

  void batch_mix(Repair repair);

  ModelRef model_;
  Material parts_;
};

TEST_P(SameBits, ThreadsAndSlices) {
  compare({{2, 256}, {3, 7}});
  if (tiny()) compare({{1, 1}, {2, 7}, {4, 64}, {4, 256}, {64, 256}});
}

TEST_P(SameBits, LayerGroups) {
  const std::vector<LayerGroup> whole = model_->architecture().layer_groups();
  ASSERT_EQ(whole.size(), 1u);
  const auto middle = whole[0].layers.begin() + static_cast<ptrdiff_t>(whole[0].layers.size() / 3);
  LayerGroup first = whole[0];
  LayerGroup second = whole[0];
  first.layers.assign(whole[0].layers.begin(), middle);
  second.layers.assign(middle, whole[0].layers.end());
  engine::ContextOptions split = options();
  split.groups = {first, second};
  EXPECT_TRUE(same(results(options()), results(split)));
}

TEST_P(SameBits, BatchMix) {
  batch_mix(Repair::none);
}

TEST_P(SameBits, BatchMixOfRepairs) {
  if (tiny()) batch_mix(Repair::head);
  batch_mix(Repair::head_select);
}

void SameBits::batch_mix(Repair repair) {
  const uint32_t count = tiny() ? 24 : 4;
  const std::vector<std::vector<Piece>> sessions = {
      {{parts_.question}},
      {{parts_.text}, {parts_.chunk_a, true}, {parts_.question}},
      {{parts_.chunk_b, true}, {parts_.chunk_a, true}, {parts_.text}},
      {{parts_.question}, {parts_.chunk_a, true}, {parts_.question}, {parts_.chunk_a, true}},
      {{parts_.all()}},
  };
  std::vector<EngineRig::Answer> alone;
  uint64_t steps_alone = 0;
  for (const std::vector<Piece>& pieces : sessions) {
    EngineRig rig(model_, options());
    alone.push_back(rig.answers({pieces}, count, repair)[0]);
    steps_alone += rig.context().metrics().steps;
  }
  EngineRig rig(model_, options());
  const std::vector<EngineRig::Answer> together = rig.answers(sessions, count, repair);
  EXPECT_LT(rig.context().metrics().steps, steps_alone) << "nothing was computed together";
  for (size_t i = 0; i < sessions.size(); ++i) {
    EXPECT_EQ(together[i].tokens, alone[i].tokens) << "session " << i;
    EXPECT_TRUE(same_bits(together[i].logits, alone[i].logits)) << "session " << i;
  }
}

TEST_P(SameBits, PrefixRuns) {
  const std::vector<std::vector<Piece>> kinds = {
      {{parts_.text}},  // plain text, then text behind a chunk
      {{parts_.text}, {parts_.chunk_a, true}, {parts_.chunk_b}},
  };
  for (const std::vector<Piece>& pieces : kinds) {
    EngineRig fresh(model_, options());
    const std::vector<float> expected = fresh.behind(pieces, parts_.question);
    EngineRig rig(model_, options());
    Tokens other = parts_.question;
    std::reverse(other.begin(), other.end());
    rig.behind(pieces, other);
    const uint64_t before = rig.context().metrics().prefix_tokens;
    EXPECT_TRUE(same_bits(rig.behind(pieces, parts_.question), expected));
    // All full pages of the last text are found again, and of the text before the chunk even the
    // last page.
    const uint64_t reused = rig.context().metrics().prefix_tokens - before;
    const size_t last = pieces.back().tokens.size();
    const uint64_t least = last / 16 * 16 + (pieces.size() > 1 ? parts_.text.size() : 0);
    EXPECT_GE(reused, least);
  }
}

// The tokens that a question chooses, given to a session that asks nothing: the same bits, so what
// is computed for them depends on nothing else of the choice.
TEST_P(SameBits, ChosenTokensByName) {
  engine::SessionOptions dial;
  dial.repair = Repair::select;
  EngineRig rig(model_, options());
  std::vector<uint32_t> again;
  const auto rows =
      rig.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &dial.chosen);
  ASSERT_FALSE(dial.chosen.empty());
  for (const uint32_t step : {1u, 7u, 64u}) {
    engine::ContextOptions with = options();
    with.max_step_tokens = step;
    EngineRig named(model_, with);
    EXPECT_TRUE(same_bits(
        named.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &again), rows));
    EXPECT_EQ(again, dial.chosen);
  }
}

const Mode kDefaultModel = {"SmolLM2", MathMode::fast, KvType::f16};
const Mode kModes[] = {
    {"tiny", MathMode::reference, KvType::f32},
    {"tiny", MathMode::fast, KvType::f16},
    {"tiny", MathMode::fast, KvType::q8_0},
    kDefaultModel,
};

std::string mode_name(const testing::TestParamInfo<Mode>& mode) {
  const char* kv_names[] = {"F32", "F16", "Q8_0"};
  return mode.param.model + (mode.param.math == MathMode::fast ? "_fast_" : "_reference_") +
         kv_names[static_cast<size_t>(mode.param.kv_type)];
}

INSTANTIATE_TEST_SUITE_P(Models, SameBits, testing::ValuesIn(kModes), mode_name);

// What takes longer than the quick tests may.
class FullSameBits : public SameBits {};
INSTANTIATE_TEST_SUITE_P(Models, FullSameBits, testing::Values(kDefaultModel), mode_name);

TEST_P(FullSameBits, ThreadsAndSlices) {
  compare({{1, 1}, {2, 7}, {4, 64}, {4, 256}, {16, 256}});
}

// Pages of layer group 0 that other sessions may read: of the anchor and chunks all, of text those
// that the prefix cache knows.
std::set<uint32_t> shared_pages(const engine::SessionState& session) {
  std::set<uint32_t> pages;
  for (const engine::Segment& segment : session.segments) {
    const size_t count =
        segment.computed_here() ? segment.published : segment.canonical->blocks.size();
    for (size_t b = 0; b < count; ++b) pages.insert(segment.span.blocks[b]->page(0));
  }
  return pages;
}

// Pages of the anchor, of chunks and of prefix runs are the same bytes before and after every kind
// of request over them.
TEST(SharedPages, StayAsTheyWere) {
  register_watched_device();
  TinyModel tiny;
  tiny.seed = 3;
  const TempFolder folder;
  write_tiny_model(folder.file("tiny.gguf"), tiny);
  model::LoadOptions load;
  load.device = "watched";
  const auto model = std::make_shared<const model::Model>(folder.file("tiny.gguf"), load);
  const Material parts = material(*model, "tiny");
  engine::ContextOptions options = exact_options();
  options.kv_budget = 2 << 20;  // few pages to read, more than are used here
  options.anchor = kAnchor;
  EngineRig rig(model, options);

  const std::vector<Piece> chunks = {{parts.chunk_a, true}, {parts.chunk_b, true}};
  engine::Context& context = rig.context();
  const engine::SessionRef first = rig.open(chunks, Repair::none, true);
  context.add_tokens(*first, parts.question);
  const engine::SessionRef second = rig.open({{parts.text}, chunks[0]}, Repair::none, false);
  context.add_tokens(*second, parts.question);
  std::set<uint32_t> shared;
  for (const engine::SessionRef& session : {first, second}) {
    context.evaluate(*session, false);
    shared.merge(shared_pages(*session));
  }
  ASSERT_GT(shared.size(), (parts.chunk_a.size() + parts.chunk_b.size() + parts.text.size()) / 16);
  const PageContents before = read_watched_pages();

  // Whatever needs the last token of shared pages again, goes on in them, or computes beside them.
  rig.behind(chunks, parts.question, Repair::none, true);
  rig.behind({chunks[1], chunks[0]}, parts.text, Repair::none, true);
  rig.behind(chunks, parts.text, Repair::full, true);
  for (const Repair repair : {Repair::head, Repair::select, Repair::head_select}) {
    engine::SessionOptions dial;
    dial.repair = repair;
    dial.select_share = 0.3f;
    dial.reselect = true;
    rig.behind(chunks, parts.question, dial, true);
    rig.behind({chunks[1], {parts.text}, chunks[0]}, parts.question, dial, false);
  }
  rig.answers({{chunks[0]}, {{parts.text}, chunks[0]}, {chunks[1], {parts.question}}}, 20);
  rig.logits(parts.text, false);
  rig.logits(Tokens(parts.text.begin(), parts.text.begin() + 32), false);

  // The sessions that hold the pages evaluate their own last token once more.
  for (const engine::SessionRef& session : {first, second}) context.evaluate(*session, false);

  const PageContents after = read_watched_pages();
  EXPECT_GT(after.size(), before.size());
  for (const uint32_t page : shared) {
    EXPECT_EQ(before.at({0, page}), after.at({0, page})) << "page " << page;
  }
}

}  // namespace
}  // namespace tessera::test
