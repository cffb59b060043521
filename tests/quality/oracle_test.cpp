// The library's reference mode, through the C ABI, against the oracle's golden files
// (tests/quality/oracle): logits of whole texts and greedy continuations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>

#include "tessera/tessera.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/quality/golden.hpp"
#include "tests/quality/variants.hpp"

namespace tessera::test {
namespace {

constexpr double kLogitBar = 1e-3;  // max abs error
constexpr float kGapBar = 0.01f;    // below it the second best token is as good

constexpr char kRealModel[] = TESSERA_MODELS "/SmolLM2-135M-Instruct-Q4_1.gguf";
constexpr char kRealGolden[] = TESSERA_TEST_DATA "/oracle/smollm2-135m-q4_1.bin";

tsr::ModelOptions reference_mode() {
  tsr::ModelOptions options;
  options.math = TSR_MATH_REFERENCE;
  return options;
}

tsr::ContextOptions exact_kv(uint32_t threads) {
  tsr::ContextOptions options;
  options.threads = threads;
  options.kv_type = TSR_KV_F32;
  options.kv_budget = 256 << 20;
  return options;
}

// Largest difference; anything that is no number counts as infinite.
class MaxError {
 public:
  void add(float ours, float theirs) {
    const double error = std::abs(double{ours} - theirs);
    largest_ =
        std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest_, error);
    ++count_;
  }
  double largest() const { return largest_; }
  uint64_t count() const { return count_; }

 private:
  double largest_ = 0;
  uint64_t count_ = 0;
};

class Subject {
 public:
  // threads 0: one a core.
  Subject(const std::string& model, const std::string& golden, uint32_t threads)
      : model_path_(model),
        golden_(golden),
        model_(runtime_, model, reference_mode()),
        context_(model_, exact_kv(threads)),
        vocabulary_(model_.info().vocabulary) {}

  bool matches() const { return golden_.is_of(model_path_); }
  bool has_text(int i) const { return golden_.has("text" + std::to_string(i) + ".tokens"); }
  bool has_greedy(int i) const { return golden_.has("greedy" + std::to_string(i) + ".prompt"); }

  void compare_text(int i, MaxError& error) {
    const std::string name = "text" + std::to_string(i) + ".";
    const std::vector<int32_t>& tokens = golden_.ints(name + "tokens");
    tsr::Session session(context_);
    session.add_tokens(tokens);
    const std::vector<float> logits = session.evaluate(TSR_LOGITS_ALL);
    ASSERT_EQ(logits.size(), tokens.size() * vocabulary_);
    const auto row = [&](size_t position) { return logits.data() + position * vocabulary_; };

    const std::vector<int32_t>& rows = golden_.ints(name + "rows");
    const std::vector<float>& whole = golden_.floats(name + "logits");
    for (size_t r = 0; r < rows.size(); ++r) {
      for (uint32_t t = 0; t < vocabulary_; ++t) {
        error.add(row(rows[r])[t], whole[r * vocabulary_ + t]);
      }
    }
    if (!golden_.has("probes")) return;
    const std::vector<int32_t>& probes = golden_.ints("probes");
    const std::vector<float>& probed = golden_.floats(name + "probe_logits");
    const std::vector<int32_t>& top = golden_.ints(name + "top_ids");
    const std::vector<float>& top_logits = golden_.floats(name + "top_logits");
    const size_t top_count = top.size() / tokens.size();
    for (size_t p = 0; p < tokens.size(); ++p) {
      for (size_t j = 0; j < probes.size(); ++j) {
        error.add(row(p)[probes[j]], probed[p * probes.size() + j]);
      }
      for (size_t j = 0; j < top_count; ++j) {
        error.add(row(p)[top[p * top_count + j]], top_logits[p * top_count + j]);
      }
      // The likeliest token is the oracle's, or as good as it.
      const auto best = std::max_element(row(p), row(p) + vocabulary_) - row(p);
      if (best != top[p * top_count]) {
        EXPECT_LT(top_logits[p * top_count] - top_logits[p * top_count + 1], kGapBar)
            << name << " position " << p;
      }
    }
  }

  // Returns how many tokens were compared: all, or those before an oracle's toss-up.
  size_t compare_greedy(int i) {
    const std::string name = "greedy" + std::to_string(i) + ".";
    const std::vector<int32_t>& expected = golden_.ints(name + "tokens");
    const std::vector<float>& gaps = golden_.floats(name + "gaps");
    const std::vector<int32_t>& prompt = golden_.ints(name + "prompt");
    tsr::Session session(context_);
    session.add_tokens(prompt);
    tsr::GenerateOptions options;
    options.max_tokens = static_cast<uint32_t>(expected.size());
    options.flags = TSR_GENERATE_IGNORE_END;
    session.generate(options);
    session.read();
    const std::vector<int32_t> tokens = session.tokens();
    EXPECT_EQ(tokens.size(), prompt.size() + expected.size()) << name;
    if (tokens.size() != prompt.size() + expected.size()) return 0;
    for (size_t step = 0; step < expected.size(); ++step) {
      if (tokens[prompt.size() + step] == expected[step]) continue;
      EXPECT_LT(gaps[step], kGapBar) << name << " differs at step " << step;
      return step;
    }
    return expected.size();
  }

 private:
  std::string model_path_;
  Golden golden_;
  tsr::Runtime runtime_;
  tsr::Model model_;
  tsr::Context context_;
  uint32_t vocabulary_;
};

void report(const std::string& what, const MaxError& error) {
  std::printf("%-24s max abs logit error %.2e over %llu values\n", what.c_str(), error.largest(),
              static_cast<unsigned long long>(error.count()));
}

TEST(OracleTiny, Variants) {
  const TempFolder folder;
  for (const Variant& variant : oracle_variants()) {
    SCOPED_TRACE(variant.name);
    const std::string path = folder.file(variant.name + ".gguf");
    write_tiny_model(path, variant.model);
    Subject subject(path, TESSERA_TEST_DATA "/oracle/" + variant.name + ".bin", 1);
    ASSERT_TRUE(subject.matches())
        << "the golden file is of another model; make new ones as docs/accuracy.md says";
    MaxError error;
    subject.compare_text(0, error);
    report(variant.name, error);
    EXPECT_GT(error.count(), 0u);
    EXPECT_LE(error.largest(), kLogitBar);
    for (int i = 0; subject.has_greedy(i); ++i) EXPECT_GT(subject.compare_greedy(i), 0u);
  }
}

class OracleReal : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kRealModel)) {
      GTEST_SKIP() << kRealModel << " is not there; ./dev test downloads it";
    }
    subject_ = std::make_unique<Subject>(kRealModel, kRealGolden, 0);
    ASSERT_TRUE(subject_->matches()) << kRealGolden << " is of another model";
  }

  // A share of the golden file: how many texts and continuations from its start.
  void compare(int texts, int continuations) {
    MaxError error;
    for (int i = 0; i < texts; ++i) {
      ASSERT_TRUE(subject_->has_text(i));
      subject_->compare_text(i, error);
    }
    report("SmolLM2-135M Q4_1", error);
    EXPECT_LE(error.largest(), kLogitBar);
    size_t compared = 0;
    for (int i = 0; i < continuations; ++i) {
      ASSERT_TRUE(subject_->has_greedy(i));
      compared += subject_->compare_greedy(i);
    }
    std::printf("%d greedy continuations, %zu tokens equal\n", continuations, compared);
  }

  std::unique_ptr<Subject> subject_;
};

TEST_F(OracleReal, Part) {
  compare(1, 5);
}

TEST_F(OracleReal, Whole) {
  compare(3, 20);
}

}  // namespace
}  // namespace tessera::test
