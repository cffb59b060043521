// The writer's arguments, and its promise: the old file or the new one, nothing between.
#include "runtime/gguf/writer.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <stdexcept>

#include "runtime/gguf/reader.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/gguf/raw_file.hpp"

namespace tessera::gguf {
namespace {

using test::expect_error;

class GgufWriter : public testing::Test {
 protected:
  size_t files() const {
    const std::filesystem::directory_iterator entries(folder_.path());
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }

  test::TempFolder folder_;
  std::string path_ = folder_.file("model.gguf");
  float one_ = 1.0f;
};

TEST_F(GgufWriter, WithoutFinishNothingChanges) {
  test::save(path_, "old");
  {
    Writer writer(path_);
    writer.set("key", 1);
    EXPECT_EQ(files(), 2u);  // the temporary file lies in the same folder
  }
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(test::load(path_), "old");
}

TEST_F(GgufWriter, ASourceThatThrowsLeavesTheOldFile) {
  test::save(path_, "old");
  {
    Writer writer(path_);
    writer.add_tensor("t", DType::f32, {1},
                      [](uint64_t, void*, uint64_t) { throw std::runtime_error("source"); });
    EXPECT_THROW(writer.finish(), std::runtime_error);
    expect_error(Status::invalid_argument, {path_, "finish"}, [&] { writer.finish(); });
  }
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(test::load(path_), "old");
}

TEST_F(GgufWriter, FinishReplacesTheFile) {
  test::save(path_, "old");
  {
    Writer writer(path_);
    writer.set("key", 1);
    writer.set("key", 2u);  // replaces value and type
    writer.finish();
    expect_error(Status::invalid_argument, {path_, "finish"}, [&] { writer.finish(); });
  }
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(*Reader(path_).find("key"), Value(2u));
}

TEST_F(GgufWriter, StreamsInRisingOrder) {
  constexpr uint64_t kCount = 3000001;  // several chunks and an odd end
  Writer writer(path_);
  uint64_t next = 0, calls = 0;
  writer.add_tensor("stream", DType::f16, {kCount},
                    [&](uint64_t offset, void* out, uint64_t bytes) {
                      EXPECT_EQ(offset, next);
                      next += bytes;
                      ++calls;
                      auto* to = static_cast<uint8_t*>(out);
                      for (uint64_t i = 0; i < bytes; ++i) to[i] = uint8_t((offset + i) * 7);
                    });
  writer.add_tensor("after", DType::f32, {1}, &one_);
  writer.finish();
  EXPECT_EQ(next, kCount * 2);
  EXPECT_GT(calls, 1u);

  const Reader reader(path_);
  std::vector<uint8_t> data(kCount * 2);
  reader.read(*reader.find_tensor("stream"), 0, data.data(), data.size());
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < data.size(); ++i) wrong += data[i] != uint8_t(i * 7);
  EXPECT_EQ(wrong, 0u);
  float after = 0;
  reader.read(*reader.find_tensor("after"), 0, &after, 4);
  EXPECT_EQ(after, 1.0f);
}

TEST_F(GgufWriter, BadArguments) {
  Writer writer(path_);
  auto tensor = [&](const char* name, DType type, std::vector<uint64_t> shape, const void* data) {
    return [=, &writer] { writer.add_tensor(name, type, shape, data); };
  };
  constexpr auto invalid = Status::invalid_argument;
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  tensor("taken", DType::f32, {1}, &one_)();
  expect_error(invalid, {path_, "'taken'"}, tensor("taken", DType::f32, {1}, &one_));
  expect_error(invalid, {path_, "name"}, tensor("", DType::f32, {1}, &one_));
  expect_error(invalid, {path_, "'n", "64"},
               tensor(std::string(65, 'n').c_str(), DType::f32, {1}, &one_));
  expect_error(invalid, {path_, "'t'", "dimensions"}, tensor("t", DType::f32, {}, &one_));
  expect_error(invalid, {path_, "'t'", "5 dim"}, tensor("t", DType::f32, {1, 1, 1, 1, 1}, &one_));
  expect_error(invalid, {path_, "'t'", "length 0"}, tensor("t", DType::f32, {0}, &one_));
  expect_error(invalid, {path_, "'t'", "multiple of 256"}, tensor("t", DType::q6_k, {32}, &one_));
  expect_error(invalid, {path_, "'t'", "overflow"}, tensor("t", DType::f32, {kHuge, 8}, &one_));
  expect_error(invalid, {path_, "'t'", "source"}, tensor("t", DType::f32, {1}, nullptr));
  expect_error(invalid, {path_, "key"}, [&] { writer.set("", 1); });
  expect_error(invalid, {path_, "key"}, [&] { writer.set(std::string(65536, 'k'), 1); });
  for (const Value& value : {Value(32), Value(48u), Value(0u), Value("32")}) {
    expect_error(invalid, {path_, "general.alignment"},
                 [&] { writer.set("general.alignment", value); });
  }
  writer.finish();  // none of these left a trace
  const Reader reader(path_);
  EXPECT_EQ(reader.tensors().size(), 1u);
  EXPECT_TRUE(reader.values().empty());
}

TEST_F(GgufWriter, BadPaths) {
  expect_error(Status::not_found, {"nowhere"},
               [&] { Writer writer(folder_.file("nowhere/model.gguf")); });
  expect_error(Status::invalid_argument, {"path"}, [&] { Writer writer(""); });
  expect_error(Status::io_error, {folder_.path().string()}, [&] {
    std::filesystem::create_directory(path_);
    Writer writer(path_);
    writer.finish();  // a folder cannot be replaced by a file
  });
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace tessera::gguf
