// Typed access to keys: what converts, and what is said when it does not.
#include <gtest/gtest.h>

#include "runtime/gguf/reader.hpp"
#include "runtime/gguf/writer.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/gguf/expect_error.hpp"

namespace tessera::gguf {
namespace {

using test::expect_error;

class GgufValues : public testing::Test {
 protected:
  Reader open(const std::vector<std::pair<std::string, Value>>& values) {
    Writer writer(path_);
    for (const auto& [key, value] : values) writer.set(key, value);
    writer.finish();
    return Reader(path_);
  }

  test::TempFolder folder_;
  std::string path_ = folder_.file("values.gguf");
};

TEST_F(GgufValues, IntegersOfAnyTypeThatFit) {
  const Reader reader = open({{"u8", uint8_t{200}},
                              {"i8", int8_t{-1}},
                              {"i16", int16_t{300}},
                              {"u64", ~uint64_t{0}},
                              {"i64", int64_t{-5}},
                              {"bool", true},
                              {"f32", 1.0f},
                              {"text", "7"}});
  EXPECT_EQ(reader.get_uint("u8"), 200u);
  EXPECT_EQ(reader.get_uint("i16"), 300u);
  EXPECT_EQ(reader.get_uint("u64"), ~uint64_t{0});
  EXPECT_EQ(reader.get_uint("absent", 9), 9u);
  EXPECT_EQ(reader.get_uint("u8", 9), 200u);
  for (const char* key : {"i8", "i64", "bool", "f32", "text", "absent"}) {
    expect_error(Status::corrupt_file, {path_, key}, [&] { reader.get_uint(key); });
  }
  expect_error(Status::corrupt_file, {path_, "'i8'", "i8 -1", "at least 0"},
               [&] { reader.get_uint("i8", 3); });
  EXPECT_EQ(reader.find("i64")->as_int(), -5);
  EXPECT_EQ(reader.find("u64")->as_int(), std::nullopt);
}

TEST_F(GgufValues, FloatsBoolsAndStrings) {
  const Reader reader = open({{"f32", 0.5f}, {"f64", 0.1}, {"bool", true}, {"text", "abc"}});
  EXPECT_EQ(reader.get_float("f32"), 0.5);
  EXPECT_EQ(reader.get_float("f64"), 0.1);
  EXPECT_EQ(reader.get_float("absent", 2.5), 2.5);
  EXPECT_TRUE(reader.get_bool("bool"));
  EXPECT_TRUE(reader.get_bool("bool", false));
  EXPECT_TRUE(reader.get_bool("absent", true));
  EXPECT_EQ(reader.get_string("text"), "abc");
  EXPECT_EQ(reader.get_string("absent", "x"), "x");
  expect_error(Status::corrupt_file, {path_, "'text'", "string", "f32"},
               [&] { reader.get_float("text", 1.0); });
  expect_error(Status::corrupt_file, {path_, "'f32'", "bool"}, [&] { reader.get_bool("f32"); });
  expect_error(Status::corrupt_file, {path_, "'bool'", "string"},
               [&] { reader.get_string("bool", "x"); });
  for (const char* key : {"absent"}) {
    expect_error(Status::corrupt_file, {path_, "missing", key}, [&] { reader.get_float(key); });
    expect_error(Status::corrupt_file, {path_, "missing", key}, [&] { reader.get_bool(key); });
    expect_error(Status::corrupt_file, {path_, "missing", key}, [&] { reader.get_string(key); });
    expect_error(Status::corrupt_file, {path_, "missing", key}, [&] { reader.get_strings(key); });
  }
}

TEST_F(GgufValues, Arrays) {
  const Reader reader = open({{"strings", std::vector<std::string>{"a", "b"}},
                              {"f32", std::vector<float>{1, 2}},
                              {"f64", std::vector<double>{0.5}},
                              {"u8", std::vector<uint8_t>{1, 255}},
                              {"i64", std::vector<int64_t>{-3, 4}},
                              {"wide", std::vector<uint32_t>{1, 0x80000000}},
                              {"bools", std::vector<bool>{true}},
                              {"scalar", 1}});
  EXPECT_EQ(reader.get_strings("strings"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader.get_floats("f32"), (std::vector<float>{1, 2}));
  EXPECT_EQ(reader.get_floats("f64"), (std::vector<float>{0.5}));
  EXPECT_EQ(reader.get_ints("u8"), (std::vector<int32_t>{1, 255}));
  EXPECT_EQ(reader.get_ints("i64"), (std::vector<int32_t>{-3, 4}));
  expect_error(Status::corrupt_file, {path_, "'wide'", "2147483648"},
               [&] { reader.get_ints("wide"); });
  for (const char* key : {"bools", "scalar", "f32", "strings", "absent"}) {
    expect_error(Status::corrupt_file, {path_, key}, [&] { reader.get_ints(key); });
  }
  expect_error(Status::corrupt_file, {path_, "'u8'", "array of u8", "array of f32"},
               [&] { reader.get_floats("u8"); });
  expect_error(Status::corrupt_file, {path_, "'f32'", "array of f32", "strings"},
               [&] { reader.get_strings("f32"); });
}

TEST(GgufValue, TypeFollowsTheArgument) {
  EXPECT_EQ(Value(1).type(), ValueType::i32);
  EXPECT_EQ(Value(1u).type(), ValueType::u32);
  EXPECT_EQ(Value(1.0).type(), ValueType::f64);
  EXPECT_EQ(Value(true).type(), ValueType::boolean);
  EXPECT_EQ(Value("text").type(), ValueType::string);
  EXPECT_EQ(Value(std::string_view("text")).type(), ValueType::string);
  EXPECT_EQ(Value(std::vector<float>{}).type(), ValueType::array);
  EXPECT_EQ(Value(std::vector<float>{}).element_type(), ValueType::f32);
  EXPECT_STREQ(value_type_name(ValueType::f64), "f64");
  EXPECT_STREQ(value_type_name(static_cast<ValueType>(99)), "unknown");
}

}  // namespace
}  // namespace tessera::gguf
