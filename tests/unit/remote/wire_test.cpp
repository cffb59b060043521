// Every field of every message comes back; nothing else is accepted.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>

#include "backends/error.hpp"
#include "backends/remote/frame.hpp"
#include "backends/remote/protocol.hpp"
#include "tests/unit/remote/samples.hpp"

namespace tessera::remote::test {
namespace {

// Weights cross as ids; here weight i of a table has id i + 100.
class FakeWeight final : public Weight {
 public:
  FakeWeight() : Weight(WeightDesc{.name = "fake"}) {}
  uint64_t device_bytes() const override { return 0; }
};

class WireTest : public testing::Test {
 protected:
  Encoder::WeightIds ids() {
    return [this](const Weight* weight) {
      for (size_t i = 0; i < 16; ++i) {
        if (weight == &weights_[i]) return uint64_t{100} + i;
      }
      fail(Status::invalid_argument, "unknown weight");
    };
  }
  Decoder::Weights by_id() {
    return [this](uint64_t id) -> const Weight* {
      if (id < 100 || id >= 116) fail(Status::invalid_argument, "unknown weight id");
      return &weights_[id - 100];
    };
  }
  template <class T>
  T round_trip(const T& value) {
    const Bytes bytes = encode(value, ids());
    T back = decode<T>("test", bytes, by_id());
    EXPECT_EQ(encode(back, ids()), bytes);
    return back;
  }
  const Weight* weight(size_t i) { return &weights_[i]; }
  Graph sample_graph() {
    return test::sample_graph([this](size_t i) { return weight(i); });
  }

  // Every proper prefix is refused, with or without a byte more so is the whole.
  template <class T>
  void expect_strict(const T& value) {
    Bytes bytes = encode(value, ids());
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THROW(decode<T>("test", std::span(bytes).first(size), by_id()), Error) << size;
    }
    bytes.push_back(0);
    EXPECT_THROW(decode<T>("test", bytes, by_id()), Error);
  }

  // Changed bytes are refused, or they are the bytes of what they decode to.
  template <class T>
  void expect_canonical(const T& value, int rounds) {
    const Bytes good = encode(value, ids());
    std::mt19937 random(7);
    int refused = 0;
    for (int round = 0; round < rounds; ++round) {
      Bytes bytes = good;
      for (uint32_t changes = 1 + random() % 3; changes > 0; --changes) {
        const uint8_t interesting[] = {0, 1, 0x7f, 0x80, 0xff, static_cast<uint8_t>(random())};
        bytes[random() % bytes.size()] = interesting[random() % 6];
      }
      if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
      try {
        EXPECT_EQ(encode(decode<T>("test", bytes, by_id()), ids()), bytes);
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, 0);
  }

 private:
  FakeWeight weights_[16];
};

TEST_F(WireTest, BackendStructs) {
  for (uint32_t status = 0; status < kStatusCount; ++status) {
    EXPECT_EQ(round_trip(Failure{static_cast<Status>(status), "why"}).status,
              static_cast<Status>(status));
  }
  const DeviceInfo device = round_trip(DeviceInfo{.id = "cuda:0",
                                                  .name = "a GPU",
                                                  .kind = DeviceKind::integrated_gpu,
                                                  .memory_total = 1ull << 40,
                                                  .memory_free = 77,
                                                  .available = true,
                                                  .reason = "none"});
  EXPECT_EQ(device.id, "cuda:0");
  EXPECT_EQ(device.name, "a GPU");
  EXPECT_EQ(device.kind, DeviceKind::integrated_gpu);
  EXPECT_EQ(device.memory_total, 1ull << 40);
  EXPECT_EQ(device.memory_free, 77u);
  EXPECT_TRUE(device.available);
  EXPECT_EQ(device.reason, "none");

  const std::string name("a\0b", 3);
  const WeightDesc desc = round_trip(
      WeightDesc{.name = name, .type = DType::q6_k, .rows = 5, .columns = 512, .uses = 3});
  EXPECT_EQ(desc.name, name);
  EXPECT_EQ(desc.type, DType::q6_k);
  EXPECT_EQ(desc.rows, 5u);
  EXPECT_EQ(desc.columns, 512u);
  EXPECT_EQ(desc.uses, 3u);

  const KvLayout layout = round_trip(
      KvLayout{.type = KvType::q8_0,
               .page_slots = 64,
               .groups = {{.layers = {0, 2}, .kv_heads = 3, .head_dim = 64, .window = 512}, {}}});
  EXPECT_EQ(layout.type, KvType::q8_0);
  EXPECT_EQ(layout.page_slots, 64u);
  ASSERT_EQ(layout.groups.size(), 2u);
  EXPECT_EQ(layout.groups[0].layers, (std::vector<uint32_t>{0, 2}));
  EXPECT_EQ(layout.groups[0].kv_heads, 3u);
  EXPECT_EQ(layout.groups[0].head_dim, 64u);
  EXPECT_EQ(layout.groups[0].window, 512u);
  EXPECT_TRUE(layout.groups[1].layers.empty());

  const ProgramOptions options = round_trip(ProgramOptions{.max_rows = 9, .threads = 4});
  EXPECT_EQ(options.max_rows, 9u);
  EXPECT_EQ(options.threads, 4u);
}

void expect_shape(const AttentionShape& shape, uint32_t layer, KeyForm form) {
  EXPECT_EQ(shape.layer, layer);
  EXPECT_EQ(shape.heads, 8u);
  EXPECT_EQ(shape.kv_heads, 2u);
  EXPECT_EQ(shape.head_dim, 16u);
  EXPECT_EQ(shape.rope, 1u);
  EXPECT_EQ(shape.key_form, form);
}

TEST_F(WireTest, EveryOp) {
  const Graph graph = round_trip(sample_graph());
  EXPECT_EQ(graph.widths, (std::vector<uint32_t>{128, 64, 32}));
  EXPECT_EQ(graph.vocabulary, 1000u);
  ASSERT_EQ(graph.ropes.size(), 2u);
  EXPECT_EQ(graph.ropes[0].frequencies, (std::vector<double>{1.0, 0.1}));
  EXPECT_EQ(graph.ropes[0].magnitude, 1.25);
  EXPECT_EQ(graph.ropes[0].pairing, RopePairing::halves);
  EXPECT_EQ(graph.ropes[1].pairing, RopePairing::adjacent);

  // A new op gets its sample and its lines here.
  static_assert(std::variant_size_v<Op> == 7);
  ASSERT_EQ(graph.ops.size(), 7u);
  const auto& embed = std::get<Embed>(graph.ops[0]);
  EXPECT_EQ(embed.table, weight(0));
  EXPECT_EQ(embed.scale, 0.5f);
  EXPECT_EQ(embed.out, 1u);
  const auto& qkv = std::get<NormQkv>(graph.ops[1]);
  EXPECT_EQ(qkv.in, 2u);
  EXPECT_EQ(qkv.norm, weight(1));
  EXPECT_EQ(qkv.wq, weight(2));
  EXPECT_EQ(qkv.wk, weight(3));
  EXPECT_EQ(qkv.wv, weight(4));
  EXPECT_EQ(qkv.epsilon, 1e-5f);
  expect_shape(qkv.shape, 3, KeyForm::local);
  EXPECT_EQ(qkv.out, 4u);
  const auto& attention = std::get<SpanAttention>(graph.ops[2]);
  EXPECT_EQ(attention.in, 5u);
  EXPECT_EQ(attention.scale, 0.25f);
  expect_shape(attention.shape, 6, KeyForm::unrotated);
  EXPECT_EQ(attention.log_sum, 14u);
  const auto& mass = std::get<AttentionMass>(graph.ops[3]);
  EXPECT_EQ(mass.in, 15u);
  EXPECT_EQ(mass.log_sum, 16u);
  EXPECT_EQ(mass.scale, 0.125f);
  expect_shape(mass.shape, 6, KeyForm::unrotated);
  EXPECT_EQ(attention.out, 7u);
  const auto& linear = std::get<LinearResidual>(graph.ops[4]);
  EXPECT_EQ(linear.in, 8u);
  EXPECT_EQ(linear.w, weight(5));
  EXPECT_EQ(linear.residual, 9u);
  EXPECT_EQ(linear.out, 10u);
  const auto& ffn = std::get<NormGatedFfn>(graph.ops[5]);
  EXPECT_EQ(ffn.in, 11u);
  EXPECT_EQ(ffn.norm, weight(6));
  EXPECT_EQ(ffn.gate, weight(7));
  EXPECT_EQ(ffn.up, weight(8));
  EXPECT_EQ(ffn.epsilon, 1e-6f);
  EXPECT_EQ(ffn.activation, Activation::silu);
  EXPECT_EQ(ffn.out, 12u);
  const auto& logits = std::get<Logits>(graph.ops[6]);
  EXPECT_EQ(logits.in, 13u);
  EXPECT_EQ(logits.norm, weight(9));
  EXPECT_EQ(logits.head, weight(10));
  EXPECT_EQ(logits.epsilon, 1e-4f);
}

TEST_F(WireTest, Step) {
  const Step step = round_trip(sample_step());
  EXPECT_EQ(step.tokens, (std::vector<int32_t>{1, 2, -3}));
  EXPECT_EQ(step.positions, (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(step.key_positions, (std::vector<int32_t>{7, -8, 9}));
  EXPECT_EQ(step.sequence_of, (std::vector<uint32_t>{10, 11, 12}));
  EXPECT_EQ(step.store_entries, (std::vector<uint32_t>{13, 14, 15}));
  EXPECT_EQ(step.store_slots, (std::vector<uint32_t>{16, 17, 18}));
  ASSERT_EQ(step.sequences.size(), 2u);
  EXPECT_EQ(step.sequences[1].first_span, 21u);
  EXPECT_EQ(step.sequences[1].span_count, 22u);
  ASSERT_EQ(step.spans.size(), 1u);
  EXPECT_EQ(step.spans[0].first_entry, 23u);
  EXPECT_EQ(step.spans[0].slots, 24u);
  EXPECT_EQ(step.spans[0].logical_start, -25);
  EXPECT_EQ(step.spans[0].frame_start, 26);
  EXPECT_EQ(step.spans[0].first_position, kNoPositions);
  EXPECT_EQ(step.page_tables, (std::vector<std::vector<uint32_t>>{{27, 28}, {}, {29}}));
  EXPECT_EQ(step.masks, (std::vector<uint64_t>{~uint64_t{0}, 30}));
  EXPECT_EQ(step.slot_positions, (std::vector<int32_t>{31}));
  ASSERT_EQ(step.logits.size(), 2u);
  EXPECT_EQ(step.logits[0].row, 32u);
  EXPECT_EQ(step.logits[0].top_k, 33u);
  EXPECT_TRUE(step.logits[0].full);
  EXPECT_EQ(step.logits[0].temperature, 0.75f);
  EXPECT_EQ(step.logits[0].first_adjustment, 34u);
  EXPECT_EQ(step.logits[0].adjustment_count, 35u);
  EXPECT_EQ(step.logits[0].first_mask_word, 36u);
  EXPECT_FALSE(step.logits[1].full);
  EXPECT_EQ(step.logits[1].first_mask_word, UINT32_MAX);
  ASSERT_EQ(step.adjustments.size(), 1u);
  EXPECT_EQ(step.adjustments[0].token, 37);
  EXPECT_EQ(step.adjustments[0].penalty, 1.5f);
  EXPECT_EQ(step.adjustments[0].subtract, -2.5f);
  EXPECT_EQ(step.token_masks, (std::vector<uint32_t>{38, 39}));
  ASSERT_EQ(step.mass_requests.size(), 1u);
  EXPECT_EQ(step.mass_requests[0].sequence, 40u);
  EXPECT_EQ(step.mass_requests[0].first_row, 41u);
  EXPECT_EQ(step.mass_requests[0].rows, 42u);
  EXPECT_EQ(step.mass_requests[0].first_layer, 43u);
}

TEST_F(WireTest, StepResultKeepsBits) {
  const uint32_t payload = 0x7fc12345;  // a NaN
  float nan = 0;
  std::memcpy(&nan, &payload, sizeof nan);
  const StepResult result = round_trip(StepResult{.logits = {{.top = {{40, 1.5f}, {41, -0.0f}},
                                                              .log_sum_exp = nan,
                                                              .weight_sum = 1.25f,
                                                              .full = {nan, -INFINITY}},
                                                             {}},
                                                  .masses = {{1, uint64_t{1} << 60}, {}}});
  EXPECT_EQ(result.masses, (std::vector<std::vector<uint64_t>>{{1, uint64_t{1} << 60}, {}}));
  ASSERT_EQ(result.logits.size(), 2u);
  ASSERT_EQ(result.logits[0].top.size(), 2u);
  EXPECT_EQ(result.logits[0].top[0].token, 40);
  EXPECT_EQ(result.logits[0].top[0].logit, 1.5f);
  EXPECT_EQ(result.logits[0].top[1].token, 41);
  EXPECT_TRUE(std::signbit(result.logits[0].top[1].logit));
  EXPECT_EQ(std::memcmp(&result.logits[0].log_sum_exp, &payload, 4), 0);
  EXPECT_EQ(result.logits[0].weight_sum, 1.25f);
  ASSERT_EQ(result.logits[0].full.size(), 2u);
  EXPECT_EQ(std::memcmp(&result.logits[0].full[0], &payload, 4), 0);
  EXPECT_EQ(result.logits[0].full[1], -INFINITY);
  EXPECT_TRUE(result.logits[1].full.empty());
}

TEST_F(WireTest, RefusesWhatNoEncoderWrites) {
  expect_strict(sample_graph());
  expect_strict(sample_step());
  expect_strict(DeviceRequest(BeginWeight{WeightDesc{.name = "w"}}));
  expect_strict(PageRequest(RunStep{.program = 1, .delay_us = 2, .fails = true}));
  expect_canonical(sample_graph(), 4000);
  expect_canonical(sample_step(), 4000);
  expect_canonical(PageRequest(Plan{.program = 1, .step = sample_step()}), 4000);
  expect_canonical(DeviceRequest(CreatePages{.layout = {.groups = {{}}}, .counts = {1}}), 2000);
}

TEST_F(WireTest, ChecksCountsBeforeMemory) {
  Bytes bytes = encode(uint64_t{1} << 60);
  EXPECT_THROW(decode<Bytes>("test", bytes), Error);
  EXPECT_THROW(decode<std::string>("test", bytes), Error);
  EXPECT_THROW(decode<std::vector<double>>("test", bytes), Error);
  EXPECT_THROW(decode<std::vector<std::vector<uint32_t>>>("test", bytes), Error);
  EXPECT_THROW(decode<Step>("test", bytes), Error);
}

TEST_F(WireTest, ChecksEnumsAtBothEnds) {
  EXPECT_THROW(encode(static_cast<KvType>(3)), Error);
  EXPECT_EQ(decode<KvType>("test", encode(uint32_t{2})), KvType::q8_0);
  EXPECT_THROW(decode<KvType>("test", encode(uint32_t{3})), Error);
  EXPECT_THROW(decode<bool>("test", encode(uint8_t{2})), Error);
  EXPECT_THROW(decode<DeviceRequest>("test", encode(uint8_t{200})), Error);
}

TEST_F(WireTest, WeightsNeedATable) {
  EXPECT_THROW(encode(sample_graph()), Error);
  EXPECT_THROW(decode<Graph>("test", encode(sample_graph(), ids())), Error);
}

class FrameTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  void TearDown() override {
    ::close(ends_[0]);
    if (!closed_) ::close(ends_[1]);
  }
  void close_other() {
    ::close(ends_[1]);
    closed_ = true;
  }
  void send_raw(const void* data, size_t size) {
    ASSERT_EQ(::send(ends_[1], data, size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
  }
  bool receive() { return receive_frame(ends_[0], header_, body_); }

  int ends_[2];
  bool closed_ = false;
  FrameHeader header_;
  Bytes body_;
};

TEST_F(FrameTest, RoundTripAndEnd) {
  const Bytes body = {1, 2, 3};
  send_frame(ends_[1], {.kind = FrameKind::reply, .lane = 5, .request = 6}, body);
  send_frame(ends_[1], {.request = 7}, {});
  close_other();
  ASSERT_TRUE(receive());
  EXPECT_EQ(header_.kind, FrameKind::reply);
  EXPECT_EQ(header_.lane, 5u);
  EXPECT_EQ(header_.request, 6u);
  EXPECT_EQ(body_, body);
  ASSERT_TRUE(receive());
  EXPECT_EQ(header_.request, 7u);
  EXPECT_TRUE(body_.empty());
  EXPECT_FALSE(receive());
  EXPECT_THROW(send_frame(ends_[0], {}, body), Error);
}

TEST_F(FrameTest, RefusesGarbage) {
  const Bytes garbage(sizeof(FrameHeader), 0x5a);
  send_raw(garbage.data(), garbage.size());
  EXPECT_THROW(receive(), Error);
}

TEST_F(FrameTest, RefusesUnknownKind) {
  FrameHeader header{.kind = static_cast<FrameKind>(9)};
  send_raw(&header, sizeof header);
  EXPECT_THROW(receive(), Error);
}

TEST_F(FrameTest, RefusesTooLargeAndTruncated) {
  FrameHeader header{.bytes = FrameHeader::kMostBytes + 1};
  send_raw(&header, sizeof header);
  EXPECT_THROW(receive(), Error);
  header.bytes = FrameHeader::kMostBytes;  // announced, and never sent
  send_raw(&header, sizeof header);
  close_other();
  EXPECT_THROW(receive(), Error);
  EXPECT_LT(body_.capacity(), size_t{64} << 20);
}

TEST_F(FrameTest, RefusesHalfAHeader) {
  const FrameHeader header;
  send_raw(&header, sizeof header / 2);
  close_other();
  EXPECT_THROW(receive(), Error);
}

}  // namespace
}  // namespace tessera::remote::test
