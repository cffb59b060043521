#include "runtime/model/rope_scaling.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/gguf/reader.hpp"
#include "runtime/model/hyperparameters.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/model/edited_model.hpp"

namespace tessera::model {
namespace {

using test::Edit;
using test::expect_error;

RopeScaling read(const std::string& path) {
  const gguf::Reader reader(path);
  return read_rope_scaling(reader, read_hyperparameters(reader, 320));
}

TEST(MakeRope, PlainFrequenciesFallFromOne) {
  const Rope rope = make_rope(64, 10000.0, {}, RopePairing::adjacent);
  ASSERT_EQ(rope.frequencies.size(), 32u);
  EXPECT_EQ(rope.magnitude, 1.0);
  EXPECT_EQ(rope.pairing, RopePairing::adjacent);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_NEAR(rope.frequencies[i], std::exp(-std::log(10000.0) * i / 32.0), 1e-14) << i;
  }
}

TEST(MakeRope, LinearDividesAll) {
  const Rope plain = make_rope(16, 500.0, {}, RopePairing::halves);
  RopeScaling scaling;
  scaling.kind = RopeScalingKind::linear;
  scaling.factor = 8;
  const Rope rope = make_rope(16, 500.0, scaling, RopePairing::halves);
  EXPECT_EQ(rope.pairing, RopePairing::halves);
  EXPECT_EQ(rope.magnitude, 1.0);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(rope.frequencies[i], plain.frequencies[i] / 8);
}

TEST(MakeRope, DivisorsDivideTheirPair) {
  const Rope plain = make_rope(8, 10000.0, {}, RopePairing::adjacent);
  RopeScaling scaling;
  scaling.divisors = {1, 1, 2.5f, 8};
  const Rope rope = make_rope(8, 10000.0, scaling, RopePairing::adjacent);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(rope.frequencies[i], plain.frequencies[i] / scaling.divisors[i]);
  }
}

// Heads of 128, base 1e6, 32,768 tokens stretched by 4, as Qwen2.5 documents it. By YaRN's formula
// a pair turns 32 times over the original context at index 23.6 and once at 39.65.
TEST(MakeRope, YarnBlendsBetweenItsBetas) {
  const Rope plain = make_rope(128, 1e6, {}, RopePairing::adjacent);
  RopeScaling scaling;
  scaling.kind = RopeScalingKind::yarn;
  scaling.factor = 4;
  scaling.original_context = 32768;
  const Rope rope = make_rope(128, 1e6, scaling, RopePairing::adjacent);
  EXPECT_NEAR(rope.magnitude, 1.138629436, 1e-9);  // 0.1 ln 4 + 1
  for (size_t i = 0; i < 64; ++i) {
    const double blend = i <= 23 ? 0.0 : i >= 40 ? 1.0 : (i - 23.0) / 17.0;
    const double expected = plain.frequencies[i] * (1 - blend + blend / 4);
    EXPECT_NEAR(rope.frequencies[i] / expected, 1.0, 1e-12) << i;
  }
  scaling.attention_factor = 0.5;
  EXPECT_NEAR(make_rope(128, 1e6, scaling, RopePairing::adjacent).magnitude, 0.569314718, 1e-9);
}

class ReadRopeScaling : public testing::Test {
 protected:
  RopeScaling read_with(const std::map<std::string, gguf::Value>& keys) {
    return read(model_.with({.set = keys}));
  }
  test::EditedModel model_;
};

TEST_F(ReadRopeScaling, NoneByDefault) {
  EXPECT_EQ(read(model_.path()).kind, RopeScalingKind::none);
  EXPECT_EQ(read_with({{"llama.rope.scaling.type", "none"}}).kind, RopeScalingKind::none);
}

TEST_F(ReadRopeScaling, Linear) {
  const RopeScaling s =
      read_with({{"llama.rope.scaling.type", "linear"}, {"llama.rope.scaling.factor", 2.5f}});
  EXPECT_EQ(s.kind, RopeScalingKind::linear);
  EXPECT_EQ(s.factor, 2.5);
  const RopeScaling old = read_with({{"llama.rope.scale_linear", 4.0f}});
  EXPECT_EQ(old.kind, RopeScalingKind::linear);
  EXPECT_EQ(old.factor, 4.0);
  EXPECT_EQ(read_with({{"llama.rope.scale_linear", 1.0f}}).kind, RopeScalingKind::none);
}

TEST_F(ReadRopeScaling, Yarn) {
  const RopeScaling s = read_with({{"llama.rope.scaling.type", "yarn"},
                                   {"llama.rope.scaling.factor", 4.0f},
                                   {"llama.rope.scaling.original_context_length", 512u},
                                   {"llama.rope.scaling.attn_factor", 0.75f},
                                   {"llama.rope.scaling.yarn_beta_fast", 16.0f},
                                   {"llama.rope.scaling.yarn_beta_slow", 2.0f}});
  EXPECT_EQ(s.kind, RopeScalingKind::yarn);
  EXPECT_EQ(s.factor, 4.0);
  EXPECT_EQ(s.original_context, 512.0);
  EXPECT_EQ(s.attention_factor, 0.75);
  EXPECT_EQ(s.beta_fast, 16.0);
  EXPECT_EQ(s.beta_slow, 2.0);
  // Without the key: the context of the file, and the paper's betas.
  const RopeScaling plain =
      read_with({{"llama.rope.scaling.type", "yarn"}, {"llama.rope.scaling.factor", 4.0f}});
  EXPECT_EQ(plain.original_context, 1024.0);
  EXPECT_EQ(plain.beta_fast, 32.0);
  EXPECT_EQ(plain.beta_slow, 1.0);
}

TEST_F(ReadRopeScaling, BadNumbers) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::pair<const char*, gguf::Value> bad[] = {
      {"factor", 0.0f},
      {"factor", -1.0f},
      {"factor", kNan},
      {"attn_factor", 0.0f},
      {"yarn_beta_fast", -2.0f},
      {"yarn_beta_slow", kInfinity},
      {"factor", "four"},
      {"original_context_length", 0u},
      {"original_context_length", 512.5f},
  };
  for (const auto& [key, value] : bad) {
    const std::string name = std::string("llama.rope.scaling.") + key;
    expect_error(Status::corrupt_file, {".gguf", name}, [&] {
      read_with({{"llama.rope.scaling.type", "yarn"}, {name, value}});
    });
  }
  // The pairs that YaRN blends are found by a logarithm to this base.
  expect_error(Status::corrupt_file, {"llama.rope.freq_base", "YaRN"}, [&] {
    read_with({{"llama.rope.scaling.type", "yarn"}, {"llama.rope.freq_base", 1.0f}});
  });
  expect_error(Status::corrupt_file, {"llama.rope.scale_linear"}, [&] {
    read_with({{"llama.rope.scale_linear", 0.0f}});
  });
}

// Kinds whose frequencies depend on how long the prompt is would turn stored keys wrong.
TEST_F(ReadRopeScaling, UnsupportedKinds) {
  for (const char* kind : {"longrope", "dynamic", "su", ""}) {
    expect_error(Status::unsupported, {".gguf", "rope.scaling.type", "yarn"}, [&] {
      read_with({{"llama.rope.scaling.type", kind}});
    });
  }
}

}  // namespace
}  // namespace tessera::model
