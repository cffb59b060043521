// What the writer writes, the reader reads: every value type, every tensor type, both versions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <thread>

#include "runtime/gguf/reader.hpp"
#include "runtime/gguf/writer.hpp"
#include "tests/fuzz/quantise.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/gguf/raw_file.hpp"

namespace tessera::gguf {
namespace {

using test::Raw;

template <typename T>
std::vector<T> extremes() {
  return {std::numeric_limits<T>::lowest(), T{0}, T{1}, std::numeric_limits<T>::max()};
}

// Every alternative of Value, with the ends of its range, empty arrays and odd strings.
std::vector<std::pair<std::string, Value>> all_values() {
  using namespace std::string_literals;
  std::vector<std::pair<std::string, Value>> all;
  auto numbers = [&]<typename T>(const std::string& name, T) {
    for (const T value : extremes<T>()) {
      all.emplace_back(name + "." + std::to_string(all.size()), Value(value));
    }
    all.emplace_back(name + ".array", Value(extremes<T>()));
    all.emplace_back(name + ".empty", Value(std::vector<T>{}));
  };
  numbers("u8", uint8_t{});
  numbers("i8", int8_t{});
  numbers("u16", uint16_t{});
  numbers("i16", int16_t{});
  numbers("u32", uint32_t{});
  numbers("i32", int32_t{});
  numbers("f32", float{});
  numbers("u64", uint64_t{});
  numbers("i64", int64_t{});
  numbers("f64", double{});
  all.emplace_back("bool.true", true);
  all.emplace_back("bool.false", false);
  all.emplace_back("bool.array", std::vector<bool>{true, false, true});
  all.emplace_back("bool.empty", std::vector<bool>{});
  all.emplace_back("string", "caf\u00e9 \xff");
  all.emplace_back("string.empty", "");
  all.emplace_back("string.nul", "a\0b"s);
  all.emplace_back("string.long", std::string(1 << 20, 'x'));  // larger than the reader's buffer
  all.emplace_back("string.array", std::vector<std::string>{"", "a\0b"s, std::string(300000, 'y')});
  all.emplace_back("string.none", std::vector<std::string>{});
  return all;
}

TEST(GgufRoundTrip, EveryValueType) {
  const test::TempFolder folder;
  const std::string path = folder.file("values.gguf");
  const auto values = all_values();
  Writer writer(path);
  for (const auto& [key, value] : values) writer.set(key, value);
  writer.finish();

  const Reader reader(path);
  EXPECT_EQ(reader.version(), 3u);
  EXPECT_EQ(reader.values().size(), values.size());
  for (const auto& [key, value] : values) {
    const Value* read = reader.find(key);
    ASSERT_NE(read, nullptr) << key;
    EXPECT_EQ(read->type(), value.type()) << key;
    EXPECT_EQ(read->element_type(), value.element_type()) << key;
    EXPECT_EQ(read->size(), value.size()) << key;
    EXPECT_TRUE(*read == value) << key;
  }
  EXPECT_EQ(reader.find("absent"), nullptr);
}

TEST(GgufRoundTrip, EveryTensorTypeInBothVersions) {
  const test::TempFolder folder;
  const std::string path = folder.file("tensors.gguf");
  std::vector<std::vector<uint8_t>> data;
  for (size_t i = 0; i < kDTypeCount; ++i) {
    std::vector<uint8_t> bytes(row_bytes(static_cast<DType>(i), 256) * 6);
    for (size_t j = 0; j < bytes.size(); ++j) bytes[j] = static_cast<uint8_t>(j * 31 + i);
    data.push_back(std::move(bytes));
  }
  Writer writer(path);
  for (size_t i = 0; i < kDTypeCount; ++i) {
    const auto type = static_cast<DType>(i);
    writer.add_tensor(dtype_info(type).name, type, {256, 3, 2}, data[i].data());
  }
  writer.finish();

  for (const uint32_t version : {3u, 2u}) {  // the two versions differ in this number only
    std::string bytes = test::load(path);
    std::memcpy(bytes.data() + 4, &version, sizeof(version));
    test::save(path, bytes);
    const Reader reader(path);
    EXPECT_EQ(reader.version(), version);
    ASSERT_EQ(reader.tensors().size(), kDTypeCount);
    for (size_t i = 0; i < kDTypeCount; ++i) {
      const Tensor& tensor = reader.tensors()[i];
      EXPECT_EQ(reader.find_tensor(tensor.name), &tensor);
      EXPECT_EQ(tensor.type, static_cast<DType>(i));
      EXPECT_EQ(tensor.shape, (std::vector<uint64_t>{256, 3, 2}));
      EXPECT_EQ(tensor.offset % 32, 0u);
      ASSERT_EQ(tensor.bytes, data[i].size());
      std::vector<uint8_t> read(tensor.bytes);
      reader.read(tensor, 0, read.data(), read.size());
      EXPECT_EQ(read, data[i]) << tensor.name;
      uint8_t last = 0;
      reader.read(tensor, tensor.bytes - 1, &last, 1);
      EXPECT_EQ(last, data[i].back());
      reader.read(tensor, tensor.bytes, nullptr, 0);  // nothing at the end is fine
    }
    EXPECT_EQ(reader.find_tensor("Q9_9"), nullptr);
  }
}

TEST(GgufRoundTrip, AlignmentOfTheFile) {
  const test::TempFolder folder;
  const std::string path = folder.file("aligned.gguf");
  const std::vector<float> ones(3, 1.0f), twos(5, 2.0f);
  Writer writer(path);
  writer.set("general.alignment", uint32_t{4096});
  writer.add_tensor("ones", DType::f32, {3}, ones.data());
  writer.add_tensor("twos", DType::f32, {5}, twos.data());
  writer.finish();

  const Reader reader(path);
  EXPECT_EQ(reader.alignment(), 4096u);
  EXPECT_EQ(reader.file_bytes() % 4096, 0u);
  for (const Tensor& tensor : reader.tensors()) EXPECT_EQ(tensor.offset % 4096, 0u);
  std::vector<float> read(5);
  reader.read(*reader.find_tensor("twos"), 0, read.data(), 20);
  EXPECT_EQ(read, twos);
}

TEST(GgufRoundTrip, TheLastTensorNeedsNoPadding) {
  const test::TempFolder folder;
  const std::string path = folder.file("unpadded.gguf");
  test::save(path, Raw::header(1, 0).tensor("t", 1, 3, 0, 0).pad().zeros(12).bytes());
  EXPECT_EQ(Reader(path).tensors().at(0).bytes, 12u);
}

TEST(GgufRoundTrip, AFileMayHaveNeitherKeysNorTensors) {
  const test::TempFolder folder;
  const std::string path = folder.file("bare.gguf");
  test::save(path, Raw::header(0, 0).bytes());
  const Reader reader(path);
  EXPECT_TRUE(reader.values().empty());
  EXPECT_TRUE(reader.tensors().empty());
  EXPECT_EQ(reader.alignment(), 32u);
}

TEST(GgufRoundTrip, MovedReaderAndReadsFromSeveralThreads) {
  const test::TempFolder folder;
  const std::string path = folder.file("threads.gguf");
  constexpr uint64_t kRows = 2000, kColumns = 64;
  Writer writer(path);
  writer.set("general.name", "threads");
  writer.add_tensor("rows", DType::f32, {kColumns, kRows},
                    [](uint64_t offset, void* out, uint64_t bytes) {
                      auto* floats = static_cast<float*>(out);
                      for (uint64_t i = 0; i < bytes / 4; ++i) {
                        floats[i] = static_cast<float>(offset / 4 + i);
                      }
                    });
  writer.finish();

  Reader first(path);
  const std::string_view name = first.get_string("general.name");
  const Tensor* tensor = first.find_tensor("rows");
  Reader reader(std::move(first));
  EXPECT_EQ(name, "threads");  // views and pointers survive the move
  EXPECT_EQ(reader.find_tensor("rows"), tensor);
  Reader other(path);
  other = std::move(reader);

  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      std::vector<float> row(kColumns);
      for (uint64_t r = t; r < kRows; r += wrong.size()) {
        other.read(*tensor, r * kColumns * 4, row.data(), kColumns * 4);
        for (uint64_t c = 0; c < kColumns; ++c) {
          wrong[t] += row[c] != static_cast<float>(r * kColumns + c);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace tessera::gguf
