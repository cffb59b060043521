// Which pieces of a step the CPU's plan finds in the same pages.
#include <gtest/gtest.h>

#include "backends/cpu/plan.hpp"

namespace tessera::cpu {
namespace {

constexpr uint32_t kPageSlots = 16;

// Sequences of one row each unless told otherwise; page tables of two layer groups.
class StepOf {
 public:
  StepOf() { step.page_tables.resize(2); }

  StepOf& sequence(uint32_t rows = 1) {
    step.sequences.push_back({static_cast<uint32_t>(step.spans.size()), 0});
    for (uint32_t r = 0; r < rows; ++r) {
      step.tokens.push_back(0);
      step.positions.push_back(5000);
      step.key_positions.push_back(5000);
      step.sequence_of.push_back(static_cast<uint32_t>(step.sequences.size() - 1));
      step.store_entries.push_back(0);
      step.store_slots.push_back(0);
    }
    return *this;
  }
  // Pages first_page, first_page + 1, ..., from entry `other` on those 1,000 behind, in the last
  // `groups` layer groups.
  StepOf& span(uint32_t first_page, uint32_t slots, uint32_t other = UINT32_MAX,
               uint32_t groups = 2) {
    step.spans.push_back({static_cast<uint32_t>(step.masks.size()), slots, 0, 0, kNoPositions});
    ++step.sequences.back().span_count;
    for (uint32_t e = 0; e * kPageSlots < slots; ++e) {
      for (uint32_t g = 0; g < 2; ++g) {
        const bool moved = e >= other && g >= 2 - groups;
        step.page_tables[g].push_back(first_page + e + (moved ? 1000 : 0));
      }
      step.masks.push_back(~uint64_t{0});
    }
    return *this;
  }

  Step step;
};

// A shared piece as text, with the rows that read it and their spans: "0-512 0.0 1.2".
std::vector<std::string> shared(Step step, uint32_t threads = 1, bool unrotated = false) {
  // Each row stores to a slot of its own.
  for (uint32_t r = 0; r < step.rows(); ++r) {
    step.store_entries[r] = static_cast<uint32_t>(step.masks.size());
    for (std::vector<uint32_t>& table : step.page_tables) table.push_back(4000 + r);
    step.masks.push_back(0);
  }
  Graph graph;
  graph.ropes.push_back({{1.0}, 1, RopePairing::adjacent});
  const RopeUse use = {.local = true, .unrotated = unrotated, .min_kv_heads = 2, .max_kv_heads = 2};
  Plan plan(graph, {10, 128, kPageSlots, {5000, 5000}}, {use}, threads);
  plan.set(step);
  std::vector<std::string> texts;
  uint32_t parts = 0, readers = 0;
  for (const SharedPiece& piece : plan.shared_pieces()) {
    std::string text = std::to_string(piece.first) + "-" + std::to_string(piece.end);
    EXPECT_EQ(piece.first_reader, readers);
    EXPECT_EQ(piece.first_part, parts);
    EXPECT_EQ(piece.begin(piece.parts), piece.first_reader + piece.readers);
    for (uint32_t p = 0; p < piece.parts; ++p) {
      const uint32_t rows = piece.begin(p + 1) - piece.begin(p);
      EXPECT_TRUE(rows >= 1 && rows <= Plan::kMaxBlock) << rows;
    }
    for (uint32_t i = 0; i < piece.readers; ++i) {
      const PieceReader& reader = plan.readers()[piece.first_reader + i];
      const uint32_t first_span = step.sequences[step.sequence_of[reader.row]].first_span;
      text += " " + std::to_string(reader.row) + "." + std::to_string(reader.span - first_span);
    }
    parts += piece.parts;
    readers += piece.readers;
    texts.push_back(text);
  }
  EXPECT_EQ(plan.readers().size(), readers);
  // Every reader belongs to one piece of one block.
  std::vector<uint32_t> owners(readers, 0);
  for (uint32_t b = 0; b < plan.blocks().size(); ++b) {
    for (uint32_t p = 0; p < plan.pieces(b).size(); ++p) {
      const PieceShare share = plan.share(b, p);
      if (!share) continue;
      for (uint32_t r = 0; r < plan.blocks()[b].rows; ++r) {
        EXPECT_EQ(plan.readers()[share.first_reader + r].row, plan.blocks()[b].first + r);
        ++owners[share.first_reader + r];
      }
    }
  }
  for (const uint32_t count : owners) EXPECT_EQ(count, 1u);
  return texts;
}

using Texts = std::vector<std::string>;

TEST(CpuPlan, FindsSharedPieces) {
  StepOf s;
  s.sequence().span(0, 600).span(100, 70);
  s.sequence().span(200, 30).span(100, 70).span(0, 600);
  s.sequence().span(300, 600);
  EXPECT_EQ(shared(s.step), (Texts{"0-512 0.0 1.2", "0-128 0.1 1.1", "512-640 0.0 1.2"}));
}

TEST(CpuPlan, OneSequenceMayReadAPieceTwice) {
  StepOf s;
  s.sequence().span(0, 70).span(0, 70);
  EXPECT_EQ(shared(s.step), Texts{}) << "of a single block nothing is looked for";
  s.sequence().span(50, 30);
  EXPECT_EQ(shared(s.step), Texts{"0-128 0.0 0.1"});
}

TEST(CpuPlan, SharesWholeTilesOfWhatIsCommonInEveryGroup) {
  {
    StepOf s;  // 9 pages in common: two tiles
    s.sequence().span(0, 300);
    s.sequence().span(0, 300, 9);
    EXPECT_EQ(shared(s.step), Texts{"0-128 0.0 1.0"});
  }
  {
    StepOf s;  // of one group
    s.sequence().span(0, 300);
    s.sequence().span(0, 300, 9, 1);
    EXPECT_EQ(shared(s.step), Texts{"0-128 0.0 1.0"});
  }
  {
    StepOf s;  // one has more pages; then a part of a tile more, which is in the same page
    s.sequence().span(0, 600);
    s.sequence().span(0, 210);
    s.sequence().span(0, 220);
    EXPECT_EQ(shared(s.step), Texts{"0-256 1.0 2.0"});
  }
  {
    StepOf s;  // less than a tile
    s.sequence().span(0, 300);
    s.sequence().span(0, 300, 3);
    EXPECT_EQ(shared(s.step), Texts{});
  }
}

// A sequence with a little in common does not keep others from sharing much.
TEST(CpuPlan, ALittleInCommonDoesNotSpoilMuch) {
  StepOf s;
  s.sequence().span(0, 512);
  s.sequence().span(0, 512);
  s.sequence().span(0, 512, 5);
  EXPECT_EQ(shared(s.step), Texts{"0-512 0.0 1.0"});
}

TEST(CpuPlan, BlocksOfManyRowsReadForThemselves) {
  StepOf s;
  s.sequence(24).span(0, 70);
  s.sequence(24).span(0, 70);
  EXPECT_EQ(shared(s.step), Texts{});
  s.sequence(2).span(0, 70);
  s.sequence(1).span(0, 70);
  EXPECT_EQ(shared(s.step), Texts{"0-128 48.0 49.0 50.0"});
}

TEST(CpuPlan, KeysThatAreRotatedOnReadAreNotShared) {
  StepOf s;
  s.sequence().span(0, 70);
  s.sequence().span(0, 70);
  EXPECT_EQ(shared(s.step).size(), 1u);
  EXPECT_EQ(shared(s.step, 1, true), Texts{});
}

// What readers see takes scratch, so there is a limit; parts leave work for every thread.
TEST(CpuPlan, ReadersAreLimitedAndSpreadOverThreads) {
  StepOf s;
  for (uint32_t i = 0; i < 100; ++i) {
    s.sequence();
    for (uint32_t span = 0; span < 45; ++span) s.span(span, 16);
  }
  for (const uint32_t threads : {1u, 8u, 1000u}) EXPECT_EQ(shared(s.step, threads).size(), 40u);
}

}  // namespace
}  // namespace tessera::cpu
