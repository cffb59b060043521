// The numeric contract of backend.hpp: what must not change a bit, and what may change rounding.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/conformance/rig.hpp"

namespace tessera {
namespace {

using test::kTokens;
using test::SpanSpec;
using test::WeightSource;

constexpr uint32_t kWidth = 256, kHeads = 6, kKvHeads = 2, kHeadDim = 32, kLayers = 2;

// A small model with everything a real one has.
test::GraphBuilder model(KeyForm form = KeyForm::local) {
  return [form](WeightSource& source) {
    Graph graph;
    graph.vocabulary = 500;
    graph.ropes.push_back(test::plain_rope(kHeadDim / 2, RopePairing::adjacent));
    const Value x = graph.add_value(kWidth);
    graph.ops.push_back(
        Embed{source.random("table", DType::q4_1, graph.vocabulary, kWidth, 1), 1, x});
    constexpr DType kTypes[kLayers][3] = {{DType::q4_1, DType::q8_0, DType::q4_0},
                                          {DType::q5_k, DType::q6_k, DType::f16}};
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const auto [qkv, ffn, down] = kTypes[layer];
      const std::string l = std::to_string(layer);
      const AttentionShape shape = {layer, kHeads, kKvHeads, kHeadDim, 0, form};
      const Value q = graph.add_value(kHeads * kHeadDim), a = graph.add_value(kHeads * kHeadDim);
      const Value h = graph.add_value(512);
      const uint32_t kv = kKvHeads * kHeadDim;
      graph.ops.push_back(NormQkv{x, source.random("n" + l, DType::f32, 1, kWidth, 1),
                                  source.random("wq" + l, qkv, kHeads * kHeadDim, kWidth, 0.3),
                                  source.random("wk" + l, qkv, kv, kWidth, 0.3),
                                  source.random("wv" + l, qkv, kv, kWidth, 0.3), 1e-5f, shape, q});
      const Value log_sum = graph.add_value(kHeads);
      graph.ops.push_back(SpanAttention{q, 0.18f, shape, a, log_sum});
      graph.ops.push_back(AttentionMass{q, log_sum, 0.18f, shape});
      graph.ops.push_back(LinearResidual{
          a, source.random("wo" + l, DType::q4_0, kWidth, kHeads * kHeadDim, 0.2), x, x});
      graph.ops.push_back(NormGatedFfn{x, source.random("m" + l, DType::f32, 1, kWidth, 1),
                                       source.random("g" + l, ffn, 512, kWidth, 0.2),
                                       source.random("u" + l, ffn, 512, kWidth, 0.2), 1e-5f,
                                       Activation::silu, h});
      graph.ops.push_back(LinearResidual{h, source.random("d" + l, down, kWidth, 512, 0.1), x, x});
    }
    graph.ops.push_back(Logits{x, source.random("norm", DType::f32, 1, kWidth, 1),
                               source.random("head", DType::q4_1, graph.vocabulary, kWidth, 0.3),
                               1e-5f});
    return graph;
  };
}

KvLayout layout_of(KvType type, uint32_t page_slots) {
  return test::one_group(type, page_slots, {0, 1}, kKvHeads, kHeadDim);
}

std::vector<uint32_t> pages_for(uint32_t first, uint32_t slots, uint32_t page_slots) {
  std::vector<uint32_t> pages((slots + page_slots - 1) / page_slots);
  for (uint32_t i = 0; i < pages.size(); ++i) pages[i] = first + i;
  return pages;
}

using Logits = std::vector<std::vector<float>>;

void append(Logits& logits, const StepResult& result) {
  for (const LogitsResult& l : result.logits) logits.push_back(l.full);
}

bool same_bits(const Logits& a, const Logits& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() ||
        std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0) {
      return false;
    }
  }
  return true;
}

// Largest difference relative to the largest logit.
double difference(const Logits& a, const Logits& b) {
  double most = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t t = 0; t < a[i].size(); ++t) {
      most = std::max<double>(most, std::abs(a[i][t] - b[i][t]));
      largest = std::max<double>(largest, std::abs(a[i][t]));
    }
  }
  return most / largest;
}

// Two sequences: a prompt of 75 tokens and one of 20, whose second span reads pages of the first.
struct Prompts {
  explicit Prompts(const KvLayout& l) : layout(l) {
    const uint32_t p = layout.page_slots;
    SpanSpec shared = {.pages = pages_for(0, 75, p), .slots = 75};
    sequences = {{shared},
                 {{.pages = pages_for(20, 5, p), .slots = 5},
                  {.pages = shared.pages, .slots = 75, .logical_start = 5, .frame_start = 5},
                  {.pages = pages_for(22, 15, p), .slots = 15, .logical_start = 80}}};
  }

  // Rows of the whole work, in the order in which they may be cut into steps.
  std::vector<test::RowSpec> rows() const {
    std::vector<test::RowSpec> rows;
    test::add_rows(rows, sequences, 0, 0, 0, 75);
    test::add_rows(rows, sequences, 1, 0, 0, 5, 1);
    test::add_rows(rows, sequences, 1, 2, 0, 15, 2);
    return rows;
  }

  // Logits of all rows, computed in steps of at most `slice` rows. Where `mass` is given, to it is
  // added what the rows of the last span attend to.
  Logits run(test::Device& device, uint32_t slice, std::vector<uint64_t>* mass = nullptr) const {
    const std::vector<test::RowSpec> all = rows();
    Logits logits;
    for (size_t first = 0; first < all.size(); first += slice) {
      const size_t end = std::min(all.size(), first + slice);
      Step step = test::make_step(
          layout, sequences,
          {all.begin() + static_cast<ptrdiff_t>(first), all.begin() + static_cast<ptrdiff_t>(end)});
      const size_t asking = std::max(first, all.size() - 15);
      if (mass && asking < end) {
        step.mass_requests.push_back(
            {1, static_cast<uint32_t>(asking - first), static_cast<uint32_t>(end - asking), 1});
      }
      const StepResult result = device.run(step);
      append(logits, result);
      for (const std::vector<uint64_t>& part : result.masses) {
        mass->resize(part.size());
        for (size_t i = 0; i < part.size(); ++i) (*mass)[i] += part[i];
      }
    }
    return logits;
  }

  KvLayout layout;
  std::vector<std::vector<SpanSpec>> sequences;
};

constexpr uint32_t kPages = 32;

class ContractConformance : public test::ConformanceTest {
 protected:
  Logits run(const KvLayout& layout, uint32_t slice, uint32_t threads,
             KeyForm form = KeyForm::local) {
    test::Device device(*backend, model(form), layout, kPages, 128, threads);
    return Prompts(layout).run(device, slice);
  }
  // What rounding in another place may change: where activations are quantised, a last bit may
  // turn a code.
  double rounding_tolerance() const { return tolerance(1e-5, DType::q8_0); }
};

TEST_P(ContractConformance, ThreadsChangeNoBit) {
  if (!GetParam().bit_exact) GTEST_SKIP() << "this device promises no equal bits";
  const KvLayout layout = layout_of(KvType::f16, 16);
  const Logits one = run(layout, 128, 1);
  for (const uint32_t threads : {2u, 3u, 4u}) {
    EXPECT_TRUE(same_bits(one, run(layout, 128, threads))) << threads << " threads";
  }
}

TEST_P(ContractConformance, SlicesChangeNoBit) {
  if (!GetParam().bit_exact) GTEST_SKIP() << "this device promises no equal bits";
  for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
    const KvLayout layout = layout_of(type, 16);
    const Logits whole = run(layout, 128, 2);
    for (const uint32_t slice : {1u, 5u, 64u}) {
      EXPECT_TRUE(same_bits(whole, run(layout, slice, 2))) << "slices of " << slice;
    }
  }
}

// Sums of integers, however the rows come.
TEST_P(ContractConformance, ThreadsAndSlicesChangeNoMass) {
  const KvLayout layout = layout_of(KvType::f16, 16);
  const auto mass_of = [&](uint32_t slice, uint32_t threads) {
    test::Device device(*backend, model(KeyForm::local), layout, kPages, 128, threads);
    std::vector<uint64_t> mass;
    Prompts(layout).run(device, slice, &mass);
    return mass;
  };
  const std::vector<uint64_t> whole = mass_of(128, 1);
  uint64_t total = 0;
  for (const uint64_t m : whole) total += m;
  EXPECT_NEAR(static_cast<double>(total) / kMassUnits, 15.0 * kHeads * (kLayers - 1), 1e-3);
  if (!GetParam().bit_exact) GTEST_SKIP() << "this device promises no equal bits";
  for (const uint32_t threads : {2u, 3u}) EXPECT_EQ(mass_of(128, threads), whole);
  for (const uint32_t slice : {1u, 7u, 64u}) EXPECT_EQ(mass_of(slice, 2), whole);
}

// A decode step of many sequences gives each the bits it gets alone.
TEST_P(ContractConformance, BatchMatesChangeNoBit) {
  if (!GetParam().bit_exact) GTEST_SKIP() << "this device promises no equal bits";
  const KvLayout layout = layout_of(KvType::f16, 8);
  std::vector<std::vector<SpanSpec>> sequences;
  for (uint32_t i = 0; i < 7; ++i) {
    sequences.push_back({{.pages = pages_for(i * 4, 3 + i * 4, 8), .slots = 3 + i * 4}});
  }
  const auto prefill = [&](test::Device& device) {
    std::vector<test::RowSpec> rows;
    for (uint32_t i = 0; i < 7; ++i) test::add_rows(rows, sequences, i, 0, 0, 2 + i * 4, i);
    device.run(test::make_step(layout, sequences, rows));
  };
  std::vector<test::RowSpec> last;
  for (uint32_t i = 0; i < 7; ++i) test::add_rows(last, sequences, i, 0, 2 + i * 4, 1, i);
  test::Device device(*backend, model(), layout, kPages);
  prefill(device);
  Logits together, alone;
  append(together, device.run(test::make_step(layout, sequences, last)));
  for (const test::RowSpec& row : last) {
    append(alone, device.run(test::make_step(layout, sequences, {row})));
  }
  EXPECT_TRUE(same_bits(together, alone));
}

TEST_P(ContractConformance, PageSizeChangesRoundingOnly) {
  const Logits base = run(layout_of(KvType::f32, 16), 128, 2);
  for (const uint32_t page_slots : {8u, 32u, 64u}) {
    const Logits other = run(layout_of(KvType::f32, page_slots), 128, 2);
    EXPECT_LE(difference(base, other), tolerance(1e-5)) << "pages of " << page_slots;
    if (GetParam().bit_exact) {  // tiles do not follow pages
      EXPECT_TRUE(same_bits(base, other));
    }
  }
}

// Keys in the frame of their segment with a rotated query equal keys rotated on read, for a chunk
// that was encoded once and stands somewhere else.
TEST_P(ContractConformance, QueryRotationEqualsUnrotatedKeys) {
  const KvLayout layout = layout_of(KvType::f32, 16);
  EXPECT_LE(difference(run(layout, 128, 2), run(layout, 128, 2, KeyForm::unrotated)),
            rounding_tolerance());
}

// The same prompt as one span, and cut into spans with frames of their own.
TEST_P(ContractConformance, FramesChangeRoundingOnly) {
  const KvLayout layout = layout_of(KvType::f32, 16);
  const std::vector<std::vector<SpanSpec>> whole = {{{.pages = pages_for(0, 48, 16), .slots = 48}}};
  const std::vector<std::vector<SpanSpec>> cut = {
      {{.pages = {0}, .slots = 7},
       {.pages = {1, 2}, .slots = 30, .logical_start = 7, .frame_start = 7},
       {.pages = {3}, .slots = 11, .logical_start = 37, .frame_start = 30}}};
  Logits logits[2];
  for (int i = 0; i < 2; ++i) {
    const auto& sequences = i == 0 ? whole : cut;
    std::vector<test::RowSpec> rows;
    for (uint32_t span = 0; span < sequences[0].size(); ++span) {
      test::add_rows(rows, sequences, 0, span, 0, sequences[0][span].slots);
    }
    for (size_t r = 0; r < rows.size(); ++r) rows[r].token = static_cast<int32_t>(r % kTokens);
    test::Device device(*backend, model(), layout, kPages);
    append(logits[i], device.run(test::make_step(layout, sequences, rows)));
  }
  EXPECT_LE(difference(logits[0], logits[1]), rounding_tolerance());
}

// Reading a chunk in another session leaves its pages as they are; pages move as bytes.
TEST_P(ContractConformance, PagesAreBytes) {
  const KvLayout layout = layout_of(KvType::q8_0, 16);
  const Prompts prompts(layout);
  test::Device a(*backend, model(), layout, kPages), b(*backend, model(), layout, kPages);
  const Logits want = prompts.run(a, 128);
  const uint64_t bytes = backend->page_bytes(layout, 0);
  std::vector<uint8_t> page(bytes), again(bytes);
  std::vector<test::RowSpec> second = prompts.rows();
  second.erase(second.begin(), second.begin() + 75);
  for (uint32_t i = 0; i < 5; ++i) {  // the first prompt, by way of another page
    a.pages().read(0, i, page.data());
    b.pages().write(0, 30, page.data());
    b.pages().copy(0, 30, i);
    b.pages().read(0, i, again.data());
    EXPECT_EQ(page, again);
  }
  Logits got;
  append(got, b.run(test::make_step(layout, prompts.sequences, second)));
  EXPECT_LE(difference({want.begin() + 75, want.end()}, got), tolerance(1e-6));
  for (uint32_t i = 0; i < 5; ++i) {
    a.pages().read(0, i, page.data());
    b.pages().read(0, i, again.data());
    EXPECT_EQ(page, again);
  }
}

TEST_P(ContractConformance, PagesStartZeroed) {
  for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
    const KvLayout layout = layout_of(type, 32);
    const auto pages = backend->create_pages(layout, std::vector<uint32_t>{3});
    std::vector<uint8_t> page(backend->page_bytes(layout, 0), 1);
    for (uint32_t i = 0; i < 3; ++i) {
      pages->read(0, i, page.data());
      EXPECT_TRUE(std::all_of(page.begin(), page.end(), [](uint8_t b) { return b == 0; }));
    }
  }
}

// Where the host reaches a page, it is the bytes that `read` reads.
TEST_P(ContractConformance, HostPagesAreThoseRead) {
  const KvLayout layout = layout_of(KvType::f16, 32);
  const auto pages = backend->create_pages(layout, std::vector<uint32_t>{3});
  const size_t bytes = backend->page_bytes(layout, 0);
  std::vector<uint8_t> page(bytes);
  for (uint8_t i = 0; i < 3; ++i) {
    uint8_t* const host = pages->host(0, i);
    EXPECT_EQ(host != nullptr, pages->host(0, 0) != nullptr) << "all or none";
    if (host) std::fill_n(host, bytes, i);
  }
  for (uint8_t i = 0; i < 3; ++i) {
    const uint8_t* const host = pages->host(0, i);
    if (!host) continue;
    pages->read(0, i, page.data());
    EXPECT_TRUE(std::all_of(page.begin(), page.end(), [&](uint8_t b) { return b == i; }));
    page.assign(bytes, static_cast<uint8_t>(9 + i));
    pages->write(0, i, page.data());
    EXPECT_TRUE(std::equal(page.begin(), page.end(), host));
  }
}

TEST_P(ContractConformance, LayoutNamesTellLayoutsApart) {
  std::vector<std::string> names;
  for (const KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
    for (const uint32_t p : {8u, 16u, 32u, 64u}) {
      names.push_back(backend->page_layout_name(layout_of(type, p)));
    }
  }
  names.push_back(backend->page_layout_name(test::one_group(KvType::f16, 16, {0}, 2, 32)));
  names.push_back(backend->page_layout_name(test::one_group(KvType::f16, 16, {0, 1}, 1, 64)));
  // As many layers, but others, or the same in another order.
  for (const std::vector<uint32_t>& layers :
       {std::vector<uint32_t>{0, 1, 2}, {0, 1, 3}, {0, 2, 1}, {0, 12, 3}, {1, 2, 3}}) {
    names.push_back(backend->page_layout_name(test::one_group(KvType::f16, 16, layers, 1, 64)));
  }
  // Two groups that share the layers out otherwise.
  for (const uint32_t other : {1u, 2u}) {
    KvLayout layout = test::one_group(KvType::f16, 16, {0, other}, 1, 64);
    layout.groups.push_back({{3 - other}, 1, 64, 0});
    names.push_back(backend->page_layout_name(layout));
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_EQ(backend->page_layout_name(layout_of(KvType::f16, 16)),
            backend->page_layout_name(layout_of(KvType::f16, 16)));
}

TESSERA_ON_EVERY_DEVICE(ContractConformance);

}  // namespace
}  // namespace tessera
