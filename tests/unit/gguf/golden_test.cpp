// Against another implementation: golden files from make_golden.py (PyPI gguf).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "runtime/gguf/reader.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/unit/gguf/raw_file.hpp"

namespace tessera::gguf {
namespace {

std::string golden(const char* name) {
  return std::string(TESSERA_GGUF_GOLDEN) + "/" + name;
}

TEST(GgufGolden, ReadsAFileOfAnotherWriter) {
  const Reader reader(golden("peer.gguf"));
  EXPECT_EQ(reader.version(), 3u);
  EXPECT_EQ(reader.get_string("general.architecture"), "llama");
  EXPECT_EQ(*reader.find("v.u8"), Value(uint8_t{255}));
  EXPECT_EQ(*reader.find("v.i8"), Value(int8_t{-128}));
  EXPECT_EQ(*reader.find("v.u16"), Value(uint16_t{65535}));
  EXPECT_EQ(*reader.find("v.i16"), Value(int16_t{-32768}));
  EXPECT_EQ(*reader.find("v.u32"), Value(uint32_t{4294967295}));
  EXPECT_EQ(*reader.find("v.i32"), Value(std::numeric_limits<int32_t>::min()));
  EXPECT_EQ(*reader.find("v.f32"), Value(0.1f));
  EXPECT_EQ(*reader.find("v.bool"), Value(true));
  EXPECT_EQ(*reader.find("v.string"), Value("gr\u00fc\u00dfe, \u4e16\u754c"));
  EXPECT_EQ(*reader.find("v.u64"), Value(~uint64_t{0}));
  EXPECT_EQ(*reader.find("v.i64"), Value(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(*reader.find("v.f64"), Value(0.1));
  EXPECT_EQ(*reader.find("v.ints"), Value(std::vector<int32_t>{-1, 0, 1}));
  EXPECT_EQ(*reader.find("v.floats"), Value(std::vector<float>{0.5f, -2.0f}));
  EXPECT_EQ(*reader.find("v.strings"), Value(std::vector<std::string>{"\u0120the", "", "\u00e9"}));
  EXPECT_EQ(*reader.find("v.bools"), Value(std::vector<bool>{true, false}));

  const Tensor* f32 = reader.find_tensor("f32");
  ASSERT_NE(f32, nullptr);
  EXPECT_EQ(f32->shape, (std::vector<uint64_t>{4, 3}));  // numpy's (3, 4): row length first
  std::vector<float> floats(12);
  reader.read(*f32, 0, floats.data(), f32->bytes);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(floats[size_t(i)], static_cast<float>(i));

  for (const char* name : {"f16", "q8_0"}) {  // both are ramps from 0 in steps of 1
    const Tensor* tensor = reader.find_tensor(name);
    ASSERT_NE(tensor, nullptr) << name;
    std::vector<char> raw(tensor->bytes);
    reader.read(*tensor, 0, raw.data(), raw.size());
    const uint64_t count = tensor->bytes / dtype_info(tensor->type).block_bytes *
                           dtype_info(tensor->type).block_elements;
    const std::vector<float> values = test::dequantise(tensor->type, raw.data(), count);
    for (size_t i = 0; i < count; ++i) EXPECT_NEAR(values[i], static_cast<float>(i), 0.3) << name;
  }
}

TEST(GgufGolden, ReadsTheDefaultModel) {
  const std::string path = std::string(TESSERA_MODELS) + "/SmolLM2-135M-Instruct-Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Reader reader(path);
  EXPECT_EQ(reader.values().size(), 33u);
  EXPECT_EQ(reader.tensors().size(), 272u);
  EXPECT_EQ(reader.get_strings("tokenizer.ggml.tokens").size(), 49152u);
  EXPECT_EQ(reader.get_strings("tokenizer.ggml.merges").size(), 48900u);
  EXPECT_EQ(reader.get_uint("llama.attention.head_count_kv"), 3u);
  const Tensor* embedding = reader.find_tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->type, DType::q8_0);
  EXPECT_EQ(embedding->shape, (std::vector<uint64_t>{576, 49152}));
  EXPECT_EQ(embedding->offset, 1785664u);  // as PyPI gguf finds it
}

TEST(GgufGolden, DequantisesLikeAnotherImplementation) {
  constexpr uint64_t kValues = 512;
  const std::string file = test::load(golden("dequantised.bin"));
  size_t at = 0;
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const auto type = static_cast<DType>(t);
    const uint64_t raw_bytes = row_bytes(type, kValues);
    ASSERT_LE(at + raw_bytes + kValues * sizeof(float), file.size());
    std::vector<float> expected(kValues);
    std::memcpy(expected.data(), file.data() + at + raw_bytes, kValues * sizeof(float));
    EXPECT_EQ(test::dequantise(type, file.data() + at, kValues), expected) << dtype_info(type).name;
    at += raw_bytes + kValues * sizeof(float);
  }
  EXPECT_EQ(at, file.size());
}

TEST(GgufQuantise, HalvesRoundTripAndRoundToEven) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = test::half_to_float(static_cast<uint16_t>(half));
    if (std::isnan(value)) continue;
    ASSERT_EQ(test::float_to_half(value), half);
  }
  EXPECT_EQ(test::float_to_half(1.0f + 0x1p-11f), 0x3c00);      // a tie goes to even: down
  EXPECT_EQ(test::float_to_half(1.0f + 3 * 0x1p-11f), 0x3c02);  // and up
  EXPECT_EQ(test::float_to_half(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(test::float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(test::float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(test::float_to_half(-0x1p-25f), 0x8000);
  EXPECT_EQ(test::float_to_half(0x1.8p-24f), 0x0002);
}

// Largest error against the largest magnitude of a block, for any block: half a level or less,
// plus what rounding the scale of a K sub-block to 6 bits costs.
TEST(GgufQuantise, StaysCloseToTheInput) {
  constexpr float kBound[] = {0,      0.0005f, 0.004f, 0.127f, 0.068f, 0.065f,
                              0.034f, 0.0041f, 0.09f,  0.055f, 0.036f};
  std::vector<float> values(2048);
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(state >> 8) * 0x1p-23f - 1;
  }
  std::fill_n(values.begin(), 256, 0.0f);
  std::fill_n(values.begin() + 256, 256, -0.75f);
  std::fill_n(values.begin() + 512, 256, 0.75f);
  for (size_t i = 768; i < 1024; ++i) values[i] = std::fabs(values[i]);

  for (size_t t = 0; t < kDTypeCount; ++t) {
    const auto type = static_cast<DType>(t);
    const std::vector<uint8_t> data = test::quantise(type, values);
    ASSERT_EQ(data.size(), row_bytes(type, values.size()));
    const std::vector<float> back = test::dequantise(type, data.data(), values.size());
    for (size_t block = 0; block < values.size(); block += 256) {
      float largest = 0, error = 0;
      for (size_t i = block; i < block + 256; ++i) {
        largest = std::max(largest, std::fabs(values[i]));
        error = std::max(error, std::fabs(values[i] - back[i]));
      }
      EXPECT_LE(error, largest * kBound[t]) << dtype_info(type).name << " block " << block / 256;
    }
  }
}

}  // namespace
}  // namespace tessera::gguf
