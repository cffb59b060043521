// A step that is asked to stop counts in full or not at all, and the next one is right.
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::SpanSpec;
using test::WeightSource;

constexpr uint32_t kRows = 60;

// Several spans a block of rows and enough slots that attention is cut into pieces.
class StopConformance : public test::ConformanceTest {
 protected:
  static Graph build(WeightSource& source) {
    Graph graph;
    graph.vocabulary = 500;
    graph.ropes.push_back(test::plain_rope(16, RopePairing::halves));
    const Value x = graph.add_value(128), q = graph.add_value(128), a = graph.add_value(128);
    const Value h = graph.add_value(256);
    const auto w = [&](const char* name, uint32_t rows, uint32_t columns, DType type) {
      return source.random(name, type, rows, columns, 0.3);
    };
    graph.ops.push_back(Embed{w("t", 500, 128, DType::q8_0), 1, x});
    const AttentionShape shape = {0, 4, 2, 32, 0, KeyForm::local};
    graph.ops.push_back(NormQkv{x, w("n", 1, 128, DType::f32), w("wq", 128, 128, DType::q4_1),
                                w("wk", 64, 128, DType::q4_1), w("wv", 64, 128, DType::q4_1), 1e-5f,
                                shape, q});
    graph.ops.push_back(SpanAttention{q, 0.2f, shape, a});
    graph.ops.push_back(LinearResidual{a, w("wo", 128, 128, DType::q4_1), x, x});
    graph.ops.push_back(NormGatedFfn{x, w("m", 1, 128, DType::f32), w("g", 256, 128, DType::q4_1),
                                     w("u", 256, 128, DType::q4_1), 1e-5f, Activation::silu, h});
    graph.ops.push_back(LinearResidual{h, w("d", 128, 256, DType::q4_1), x, x});
    graph.ops.push_back(
        Logits{x, w("o", 1, 128, DType::f32), w("h", 500, 128, DType::q4_1), 1e-5f});
    return graph;
  }
  static KvLayout layout() { return test::one_group(KvType::f16, 64, {0}, 2, 32); }

  // `count` rows that end a span of 1,200 slots.
  static Step step(uint32_t count) {
    std::vector<uint32_t> pages(19);
    for (uint32_t i = 0; i < pages.size(); ++i) pages[i] = i;
    const std::vector<std::vector<SpanSpec>> sequences = {{{.pages = pages, .slots = 1200}}};
    std::vector<test::RowSpec> rows;
    test::add_rows(rows, sequences, 0, 0, 1200 - count, count);
    return test::make_step(layout(), sequences, rows);
  }

  static void expect_same(const StepResult& a, const StepResult& b) {
    ASSERT_EQ(a.logits.size(), b.logits.size());
    for (size_t i = 0; i < a.logits.size(); ++i) {
      ASSERT_EQ(std::memcmp(a.logits[i].full.data(), b.logits[i].full.data(),
                            a.logits[i].full.size() * sizeof(float)),
                0)
          << "row " << i;
    }
  }
};

TEST_P(StopConformance, BeforeTheStep) {
  test::Device device(*backend, build, layout(), 20);
  if (!device.program().stoppable()) GTEST_SKIP() << "this device's steps run to their end";
  for (const uint32_t rows : {1u, kRows}) {
    const StepResult expected = device.run(step(rows));
    EXPECT_FALSE(expected.stopped);
    device.program().stop();
    const StepResult stopped = device.run(step(rows));
    EXPECT_TRUE(stopped.stopped);
    EXPECT_TRUE(stopped.logits.empty());
    const StepResult again = device.run(step(rows));
    EXPECT_FALSE(again.stopped) << "an old stop ended a new step";
    expect_same(again, expected);
  }
}

TEST_P(StopConformance, AtAnyMoment) {
  test::Device device(*backend, build, layout(), 20);
  if (!device.program().stoppable()) GTEST_SKIP() << "this device's steps run to their end";
  for (const uint32_t rows : {1u, kRows}) {
    const auto begin = std::chrono::steady_clock::now();
    const StepResult expected = device.run(step(rows));
    const auto whole = std::chrono::steady_clock::now() - begin;
    int stopped = 0;
    for (int i = 0; i < 40; ++i) {
      std::thread stopper([&] {
        std::this_thread::sleep_for(whole * i / 40);
        device.program().stop();
      });
      const StepResult result = device.run(step(rows));
      stopper.join();
      if (result.stopped) {
        ++stopped;
        EXPECT_TRUE(result.logits.empty());
      } else {
        expect_same(result, expected);
        device.run(step(rows));  // may take a stop that came late
      }
      expect_same(device.run(step(rows)), expected);
    }
    if (rows == kRows) {
      EXPECT_GT(stopped, 0);
    }
  }
}

TESSERA_ON_EVERY_DEVICE(StopConformance);

}  // namespace
}  // namespace tessera
