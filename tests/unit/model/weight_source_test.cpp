#include "runtime/model/weight_source.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "backends/registry.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/model/edited_model.hpp"

namespace tessera::model {
namespace {

using test::Edit;
using test::expect_error;

class WeightSourceTest : public testing::Test {
 protected:
  WeightSourceTest() : backend_(open_device("cpu", {})), reader_(model_.path()) {}

  test::EditedModel model_;
  std::unique_ptr<Backend> backend_;
  gguf::Reader reader_;
};

TEST_F(WeightSourceTest, ChecksShapes) {
  WeightSource source(reader_, *backend_, nullptr);
  const auto weight = source.load("blk.0.attn_k.weight", 32, 64);
  EXPECT_EQ(weight->desc().rows, 32u);
  EXPECT_EQ(weight->desc().columns, 64u);
  EXPECT_EQ(source.load("output_norm.weight", 1, 64)->desc().columns, 64u);
  expect_error(Status::corrupt_file, {".gguf", "blk.0.attn_q.weight", "[64, 64]", "[64, 32]"},
               [&] { source.load("blk.0.attn_q.weight", 32, 64); });
  expect_error(Status::corrupt_file, {"output_norm.weight", "[64]", "[32]"},
               [&] { source.load("output_norm.weight", 1, 32); });
  expect_error(Status::corrupt_file, {"output_norm.weight"},
               [&] { source.load("output_norm.weight", 64, 1); });
  expect_error(Status::corrupt_file, {".gguf", "blk.2.attn_q.weight", "missing"},
               [&] { source.load("blk.2.attn_q.weight", 64, 64); });
  EXPECT_TRUE(source.has("token_embd.weight"));
  EXPECT_FALSE(source.has("output.weight"));
}

TEST_F(WeightSourceTest, HostTensors) {
  const std::string path = model_.with({.put = {{"rope_freqs.weight", {{3, 1}, {1, 2, 0.5f}}}}});
  const gguf::Reader reader(path);
  WeightSource source(reader, *backend_, nullptr);
  EXPECT_EQ(source.load_host("rope_freqs.weight", 3), (std::vector<float>{1, 2, 0.5f}));
  expect_error(Status::corrupt_file, {"rope_freqs.weight", "[3, 1]", "[4]"},
               [&] { source.load_host("rope_freqs.weight", 4); });

  test::EditedModel half(test::tiny_model_of(DType::f16));
  const gguf::Reader other(half.with({.drop_tensors = {"output_norm.weight"}}));
  WeightSource halves(other, *backend_, nullptr);
  expect_error(Status::corrupt_file, {"token_embd.weight"},
               [&] { halves.load_host("token_embd.weight", 64); });
}

TEST_F(WeightSourceTest, FinishNamesWhatNobodyTook) {
  WeightSource source(reader_, *backend_, nullptr);
  source.load("token_embd.weight", 320, 64);
  expect_error(Status::unsupported, {".gguf", "blk.0.", "not known"}, [&] { source.finish(); });
}

TEST_F(WeightSourceTest, ProgressRisesToOneAndStops) {
  std::vector<float> shares;
  const auto load_all = [&](const LoadProgress& progress) {
    WeightSource source(reader_, *backend_, progress);
    for (const gguf::Tensor& tensor : reader_.tensors()) {
      const uint32_t rows = tensor.shape.size() > 1 ? static_cast<uint32_t>(tensor.shape[1]) : 1;
      source.load(tensor.name, rows, static_cast<uint32_t>(tensor.shape[0]));
    }
    source.finish();
    return source.fingerprint();
  };
  load_all([&](float share) {
    shares.push_back(share);
    return true;
  });
  ASSERT_GE(shares.size(), reader_.tensors().size());
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_GT(shares.front(), 0.0f);
  EXPECT_EQ(shares.back(), 1.0f);

  int calls = 0;
  expect_error(Status::cancelled, {".gguf", "stopped"},
               [&] { load_all([&](float) { return ++calls < 3; }); });
  EXPECT_EQ(calls, 3);
}

TEST_F(WeightSourceTest, FingerprintIsOfKeysAndData) {
  const auto fingerprint = [&](const std::string& path) {
    const gguf::Reader reader(path);
    WeightSource source(reader, *backend_, nullptr);
    source.load("token_embd.weight", 320, 64);
    source.load("output_norm.weight", 1, 64);
    const Fingerprint f = source.fingerprint();
    return std::pair(f.low, f.high);
  };
  const auto plain = fingerprint(model_.with({}));
  EXPECT_EQ(fingerprint(model_.with({})), plain);
  EXPECT_NE(fingerprint(model_.with({.set = {{"llama.rope.freq_base", 10001.0f}}})), plain);
  std::vector<float> norm(64, 1.0f);
  Edit edit{.put = {{"output_norm.weight", {{64}, norm}}}};
  const auto first = fingerprint(model_.with(edit));
  edit.put["output_norm.weight"].values[63] = 1.0000001f;
  EXPECT_NE(fingerprint(model_.with(edit)), first);
}

// A file that is replaced while it is open is read to its end as it was.
TEST_F(WeightSourceTest, FingerprintIsOfTheOpenFile) {
  const auto fingerprint = [&](const gguf::Reader& reader) {
    WeightSource source(reader, *backend_, nullptr);
    source.load("token_embd.weight", 320, 64);
    return std::pair(source.fingerprint().low, source.fingerprint().high);
  };
  const std::string path = model_.with({});
  const gguf::Reader reader(path);
  const auto before = fingerprint(reader);
  std::filesystem::rename(model_.with({.set = {{"llama.rope.freq_base", 10001.0f}}}), path);
  EXPECT_EQ(fingerprint(reader), before);
  EXPECT_NE(fingerprint(gguf::Reader(path)), before);
}

}  // namespace
}  // namespace tessera::model
