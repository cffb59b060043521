// Weights that are no numbers: an answer from them fails, whatever the type of the weights and
// wherever they stand, rather than reading like one.
#include <cmath>
#include <fstream>
#include <limits>

#include "runtime/gguf/reader.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {
namespace {

struct Damage {
  std::string tensor;
  uint64_t offset;  // in the tensor's bytes
  std::string bytes;
};

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Of the float that the first weights depend on: a scale, a minimum or a weight.
std::vector<std::pair<uint64_t, std::string>> spoiled(DType type) {
  const std::string nan = raw(uint16_t{0x7e00}), infinity = raw(uint16_t{0xfc00});
  switch (type) {
    case DType::f32:
      return {{0, raw(std::numeric_limits<float>::quiet_NaN())},
              {4, raw(std::numeric_limits<float>::infinity())}};
    case DType::bf16:
      return {{2, raw(uint16_t{0x7fc1})}, {0, raw(uint16_t{0x7f80})}};
    case DType::q6_k:
      return {{208, nan}, {208, infinity}};
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return {{0, nan}, {2, nan}, {0, infinity}, {2, infinity}};
    default:
      return {{0, nan}, {0, infinity}};
  }
}

class DamagedWeights : public testing::Test {
 protected:
  DamagedWeights() { load_model("cpu"); }

  void write(DType type) {
    path_ = folder_.file(std::string(dtype_info(type).name) + ".gguf");
    write_tiny_model(path_, tiny_model_of(type));
  }

  void expect_failure(const Damage& damage) {
    const std::string path = folder_.file("damaged.gguf");
    std::filesystem::copy_file(path_, path, std::filesystem::copy_options::overwrite_existing);
    {
      const gguf::Reader reader(path);
      const gguf::Tensor* tensor = reader.find_tensor(damage.tensor);
      ASSERT_NE(tensor, nullptr);
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(tensor->offset + damage.offset));
      file << damage.bytes;
    }
    for (const tsr_math math : {TSR_MATH_FAST, TSR_MATH_REFERENCE}) {
      tsr::ModelOptions options;
      options.math = math;
      const tsr::Model model(tsr::Runtime(), path, options);
      const tsr::Context context(model, small(64));
      for (const tsr::GenerateOptions& how : {greedy(3), drawn(3, 1)}) {
        tsr::Session session(context);
        session.add_text("a text of some tokens");
        session.generate(how);
        const Answer answer = read(session);
        EXPECT_EQ(answer.status, TSR_CORRUPT_FILE)
            << damage.tensor << " at " << damage.offset << ", math " << math;
        EXPECT_NE(answer.message.find("not finite"), std::string::npos) << answer.message;
        EXPECT_EQ(answer.tokens, 0u);
      }
    }
  }

  TempFolder folder_;
  std::string path_;
};

TEST_F(DamagedWeights, ScalesOfEveryType) {
  for (size_t t = 0; t < kDTypeCount; ++t) {
    const auto type = static_cast<DType>(t);
    SCOPED_TRACE(dtype_info(type).name);
    write(type);
    for (const auto& [offset, bytes] : spoiled(type)) {
      expect_failure({"blk.0.ffn_down.weight", offset, bytes});
    }
  }
}

TEST_F(DamagedWeights, EveryTensor) {
  const std::string nan = raw(std::numeric_limits<float>::quiet_NaN());
  write(DType::f32);
  for (const char* tensor :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
        "blk.0.ffn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
        "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"}) {
    expect_failure({tensor, 0, nan});
  }
}

}  // namespace
}  // namespace tessera::test
