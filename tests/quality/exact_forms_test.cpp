// Ways to keep and place KV that must give the same logits but for rounding, and those that must
// not (so that the comparisons are known to notice).
#include <gtest/gtest.h>

#include <cstdio>

#include "runtime/engine/step_builder.hpp"
#include "tests/quality/subjects.hpp"

namespace tessera::test {
namespace {

using engine::Repair;

constexpr double kBar = 1e-4;          // max abs difference of logits
constexpr double kPageSizeBar = 1e-5;  // of the largest logit

constexpr char kPrimer[] =
    "Bread is baked before dawn, when the streets are quiet and the ovens have the night's heat.";

// Dials that leave nothing of a chunk as it was encoded.
std::vector<engine::SessionOptions> whole_repairs() {
  const auto dial = [](Repair repair, uint32_t head) {
    engine::SessionOptions options;
    options.repair = repair;
    options.head_tokens = head;
    options.select_share = 1;
    return options;
  };
  return {dial(Repair::head, 1000), dial(Repair::select, 0), dial(Repair::head_select, 16)};
}

// And those of the usual size.
std::vector<engine::SessionOptions> all_repairs() {
  std::vector<engine::SessionOptions> all = whole_repairs();
  for (const Repair repair : {Repair::head, Repair::select, Repair::head_select}) {
    all.emplace_back().repair = repair;
  }
  return all;
}

std::string name_of(const engine::SessionOptions& dial) {
  const char* names[] = {"none", "head", "select", "head + select", "full"};
  const std::string name = names[static_cast<size_t>(dial.repair)];
  return dial.repairs_heads() ? name + ", head " + std::to_string(dial.head_tokens) : name;
}

class Exactness : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    model_ = subject(GetParam(), MathMode::reference);
    if (!model_) GTEST_SKIP() << "the default model is not in models/; ./dev test downloads it";
    parts_ = material(*model_, GetParam());
  }

  void expect_close(const std::string& what, const std::vector<float>& a,
                    const std::vector<float>& b) {
    const double difference = max_difference(a, b);
    std::printf("%-8s %-48s max abs difference %.1e\n", GetParam().c_str(), what.c_str(),
                difference);
    EXPECT_LE(difference, kBar) << what;
  }

  std::vector<float> question_rows(const std::vector<float>& rows) const {
    const size_t floats = parts_.question.size() * model_->hyperparameters().vocabulary;
    return {rows.end() - static_cast<ptrdiff_t>(floats), rows.end()};
  }

  bool tiny() const { return GetParam() == "tiny"; }

  // All that is approximate computed again is an ordinary prompt, also where the chunks were
  // encoded behind something: an anchor, a primer, both.
  void repair_everything(const std::string& base) {
    engine::ContextOptions options = exact_options();
    if (base == "anchor" || base == "both") options.anchor = kAnchor;
    if (base == "primer" || base == "both") options.primer = kPrimer;
    EngineRig rig(model_, options);
    const std::vector<float> ordinary = question_rows(rig.logits(parts_.all()));
    EXPECT_GT(max_difference(rig.behind(parts_.pieces(), parts_.question), ordinary), 100 * kBar);
    for (const engine::SessionOptions& dial : whole_repairs()) {
      engine::Report report;
      expect_close(name_of(dial) + ", behind " + base,
                   rig.behind(parts_.pieces(), parts_.question, dial, false, &report), ordinary);
      EXPECT_EQ(report.tokens_approximate, 0u);
    }
  }

  // The question chooses the same tokens in either form, and gets the same of them.
  void compare_key_forms(const std::vector<engine::SessionOptions>& dials) {
    EngineRig local(model_, exact_options());
    engine::ContextOptions options = exact_options();
    options.key_form = KeyForm::unrotated;
    EngineRig unrotated(model_, options);
    for (const engine::SessionOptions& dial : dials) {
      std::vector<uint32_t> chosen, other;
      const std::vector<float> rows =
          local.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &chosen);
      expect_close(
          "query rotated, unrotated keys: " + name_of(dial), rows,
          unrotated.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &other));
      EXPECT_EQ(chosen, other);
    }
  }

  void compare_page_sizes(const std::vector<Repair>& repairs) {
    for (const Repair repair : repairs) {
      engine::SessionOptions dial;
      dial.repair = repair;
      std::vector<float> baseline;
      std::vector<uint32_t> baseline_chosen;
      for (const uint32_t page_size : {16u, 8u, 32u, 64u}) {
        engine::ContextOptions options = exact_options();
        options.page_size = page_size;
        EngineRig rig(model_, options);
        std::vector<uint32_t> chosen;
        const std::vector<float> rows =
            rig.behind(parts_.pieces(), parts_.question, dial, false, nullptr, &chosen);
        if (baseline.empty()) {
          baseline = rows;
          baseline_chosen = chosen;
        }
        const double relative = max_difference(rows, baseline) / max_magnitude(baseline);
        std::printf("%-8s page size %-2u, %-34s max relative difference %.1e\n", GetParam().c_str(),
                    page_size, name_of(dial).c_str(), relative);
        EXPECT_LE(relative, kPageSizeBar) << page_size;
        EXPECT_EQ(chosen, baseline_chosen) << page_size;
      }
    }
  }

  ModelRef model_;
  Material parts_;
};

// A chunk that is computed in place keeps its keys in its own frame; ordinary prefill keeps all in
// frame 0, which is to say absolute keys.
TEST_P(Exactness, FullRepairIsOrdinaryPrefill) {
  EngineRig rig(model_, exact_options());
  std::vector<Piece> pieces = parts_.pieces();
  pieces.push_back({parts_.question});
  expect_close("full repair, ordinary prefill", rig.full_repair(pieces), rig.logits(parts_.all()));
}

// A head, which stands behind exact content, and all other tokens selected.
TEST_P(Exactness, AHeadAndTheRestSelectedIsOrdinaryPrefill) {
  Tokens plain = parts_.text;
  for (const Tokens* part : {&parts_.chunk_a, &parts_.question}) {
    plain.insert(plain.end(), part->begin(), part->end());
  }
  engine::ContextOptions options = exact_options();
  options.primer = kPrimer;
  EngineRig rig(model_, options);
  engine::SessionOptions dial;
  dial.repair = Repair::head_select;
  dial.select_share = 0.9f;
  engine::Report report;
  expect_close(
      "head and the rest selected, ordinary prefill",
      rig.behind({{parts_.text}, {parts_.chunk_a, true}}, parts_.question, dial, false, &report),
      question_rows(rig.logits(plain)));
  EXPECT_EQ(report.tokens_repaired, parts_.chunk_a.size());
}

// Whatever a chunk was encoded behind.
TEST_P(Exactness, RepairingEverythingIsOrdinaryPrefill) {
  if (tiny()) {
    for (const char* base : {"nothing", "anchor", "primer"}) repair_everything(base);
  }
  repair_everything("both");
}

TEST_P(Exactness, KeyFormsOfRepairs) {
  std::vector<engine::SessionOptions> dials(1);
  dials[0].repair = Repair::head_select;
  if (tiny()) dials = all_repairs();
  compare_key_forms(dials);
}

TEST_P(Exactness, ChunkBehindItsAnchorIsExact) {
  engine::ContextOptions options = exact_options();
  options.anchor = kAnchor;
  EngineRig rig(model_, options);
  Tokens plain = model_->tokenizer().encode(kAnchor, true);
  plain.insert(plain.end(), parts_.chunk_a.begin(), parts_.chunk_a.end());
  plain.insert(plain.end(), parts_.question.begin(), parts_.question.end());
  const std::vector<float> ordinary = question_rows(rig.logits(plain));
  const std::vector<Piece> chunk = {{parts_.chunk_a, true}};
  for (const engine::SessionOptions& dial : all_repairs()) {
    engine::Report report;
    expect_close("chunk behind its anchor, " + name_of(dial),
                 rig.behind(chunk, parts_.question, dial, true, &report), ordinary);
    EXPECT_EQ(report.tokens_repaired, 0u) << "it is exact as it is";
  }
  expect_close("chunk behind its anchor, ordinary prefill",
               rig.behind(chunk, parts_.question, Repair::none, true), ordinary);

  // Behind something else it is an approximation, and this test sees that.
  const double elsewhere = max_difference(rig.behind(chunk, parts_.question), ordinary);
  EXPECT_GT(elsewhere, 100 * kBar);
}

TEST_P(Exactness, ChunksElsewhereAreApproximate) {
  EngineRig rig(model_, exact_options());
  const std::vector<float> ordinary = question_rows(rig.logits(parts_.all()));
  EXPECT_GT(max_difference(rig.behind(parts_.pieces(), parts_.question), ordinary), 100 * kBar);
}

TEST_P(Exactness, KeyForms) {
  EngineRig local(model_, exact_options());
  engine::ContextOptions options = exact_options();
  options.key_form = KeyForm::unrotated;
  EngineRig unrotated(model_, options);
  const std::vector<Piece> pieces = parts_.pieces();
  const Tokens& question = parts_.question;
  expect_close("chunks as encoded: query rotated, unrotated keys", local.behind(pieces, question),
               unrotated.behind(pieces, question));
  expect_close("full repair: query rotated, unrotated keys",
               local.behind(pieces, question, Repair::full),
               unrotated.behind(pieces, question, Repair::full));
  expect_close("ordinary prefill: absolute keys, unrotated keys", local.logits(parts_.all()),
               unrotated.logits(parts_.all()));
}

TEST_P(Exactness, PageSizes) {
  compare_page_sizes({Repair::none});
  if (tiny()) compare_page_sizes({Repair::head, Repair::head_select});
}

// The same page contents, placed at several positions, with the question behind them. No session
// can do this, since something else would have to stand in front; the steps are built by hand.
TEST_P(Exactness, MovingChangesOnlyRounding) {
  const engine::ContextOptions options = exact_options();
  KvLayout layout{options.kv_type, options.page_size, model_->architecture().layer_groups()};
  kv::PagePool pool(model_->backend(), layout, options.kv_budget);
  const Graph graph = model_->architecture().build_graph({});
  const auto program = model_->backend().compile(graph, pool.memory(), {256, 2});

  // Computes the pending tokens of the last segment; its logits.
  const auto compute = [&](std::vector<engine::Segment>& segments) {
    engine::Segment& last = segments.back();
    const uint32_t count = last.pending();
    while (last.span.blocks.size() * options.page_size < last.length) {
      last.span.blocks.push_back(pool.try_allocate());
      last.span.masks.push_back(0);
    }
    engine::StepBuilder builder(options.page_size, 1);
    const engine::SegmentRows rows{static_cast<uint32_t>(segments.size() - 1), count, {}};
    builder.add_sequence(segments, std::span(&rows, 1));
    for (uint32_t row = 0; row < count; ++row) {
      LogitsRequest request;
      request.row = row;
      request.full = true;
      builder.step().logits.push_back(request);
    }
    StepResult result;
    program->plan(builder.step());
    program->submit();
    program->wait(result);
    last.span.extend(count, options.page_size);
    std::vector<float> logits;
    for (const LogitsResult& row : result.logits) {
      logits.insert(logits.end(), row.full.begin(), row.full.end());
    }
    return logits;
  };
  const auto segment = [](const Tokens& tokens, int32_t logical_start, int32_t frame_start) {
    engine::Segment s;
    s.tokens = tokens;
    s.length = static_cast<uint32_t>(tokens.size());
    s.span.logical_start = logical_start;
    s.span.frame_start = frame_start;
    return s;
  };

  std::vector<engine::Segment> alone = {segment(parts_.chunk_a, 0, 0)};
  compute(alone);
  std::vector<float> unmoved;
  const int32_t length = static_cast<int32_t>(parts_.chunk_a.size());
  for (const int32_t start : {0, 1, 61, 700}) {
    engine::Segment chunk = alone[0];
    chunk.span.logical_start = start;
    chunk.span.frame_start = start;
    std::vector<engine::Segment> session = {chunk, segment(parts_.question, start + length, 0)};
    const std::vector<float> logits = compute(session);
    if (start == 0) unmoved = logits;
    expect_close("moved by " + std::to_string(start), logits, unmoved);
    if (start == 0) continue;
    // A query that is not turned to the chunk's frame reads it from the wrong distance.
    session = {alone[0], segment(parts_.question, start + length, 0)};
    EXPECT_GT(max_difference(compute(session), unmoved), kBar) << start;
  }
}

TEST_P(Exactness, KvTypes) {
  EngineRig exact(model_, exact_options());
  const std::vector<float> expected = exact.behind(parts_.pieces(), parts_.question);
  const struct {
    KvType type;
    const char* name;
    double bar;  // mean divergence in nats
  } types[] = {{KvType::f16, "F16", 0.001}, {KvType::q8_0, "Q8_0", 0.004}};
  for (const auto& type : types) {
    engine::ContextOptions options = exact_options();
    options.kv_type = type.type;
    EngineRig rig(model_, options);
    const std::vector<float> rows = rig.behind(parts_.pieces(), parts_.question);
    const double divergence = mean_divergence(expected, rows, model_->hyperparameters().vocabulary);
    std::printf("%-8s KV %-5s max abs difference %.1e, mean KL %.1e\n", GetParam().c_str(),
                type.name, max_difference(rows, expected), divergence);
    EXPECT_LE(divergence, type.bar) << type.name;
    EXPECT_GT(max_difference(rows, expected), 0) << type.name << " is not what it says";
  }
}

// What takes longer than the quick tests may.
class FullExactness : public Exactness {};
INSTANTIATE_TEST_SUITE_P(Models, FullExactness, testing::Values("SmolLM2"),
                         [](const auto& model) { return model.param; });

TEST_P(FullExactness, RepairingEverythingIsOrdinaryPrefill) {
  for (const char* base : {"nothing", "anchor", "primer", "both"}) repair_everything(base);
}

TEST_P(FullExactness, KeyFormsOfRepairs) {
  compare_key_forms(all_repairs());
}

TEST_P(FullExactness, PageSizesOfRepairs) {
  compare_page_sizes({Repair::head, Repair::select, Repair::head_select});
}

INSTANTIATE_TEST_SUITE_P(Models, Exactness, testing::Values("tiny", "SmolLM2"),
                         [](const auto& model) { return model.param; });

}  // namespace
}  // namespace tessera::test
