// Damaged and hostile files: each has its status, and the message names file, key or tensor.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "runtime/gguf/reader.hpp"
#include "runtime/gguf/writer.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/gguf/expect_error.hpp"
#include "tests/unit/gguf/raw_file.hpp"

namespace tessera::gguf {
namespace {

using test::expect_error;
using test::Raw;

constexpr uint32_t kU8 = 0, kU32 = 4, kI32 = 5, kBool = 7, kString = 8, kArray = 9, kU64 = 10;
constexpr uint32_t kF32 = 0, kQ2K = 10, kQ4K = 12, kQ80 = 8;
constexpr uint64_t kMax = ~uint64_t{0};

struct Bad {
  const char* name;
  Status status;
  std::vector<std::string> named;
  Raw file;
};

// One tensor of four floats with the given entry, and enough data.
Raw one_tensor(const Raw& entry) {
  return Raw::header(1, 0).append(entry.bytes()).pad().zeros(256);
}

Raw one_key(const Raw& key) {
  return Raw::header(0, 1).append(key.bytes()).zeros(64);
}

std::vector<Bad> bad_headers() {
  constexpr auto corrupt = Status::corrupt_file;
  constexpr auto unsupported = Status::unsupported;
  return {
      {"empty", corrupt, {"empty"}, Raw()},
      {"three bytes", corrupt, {"truncated"}, Raw().append("GGU")},
      {"magic only", corrupt, {"truncated"}, Raw().append("GGUF")},
      {"other magic", corrupt, {"not a GGUF file"}, Raw().append("GGJT").zeros(100)},
      {"version 1", unsupported, {"version 1", "2 and 3"}, Raw::header(0, 0, 1)},
      {"version 4", unsupported, {"version 4", "2 and 3"}, Raw::header(0, 0, 4)},
      {"version 0", unsupported, {"version 0"}, Raw::header(0, 0, 0)},
      {"big endian 3", unsupported, {"big-endian"}, Raw::header(0, 0, 0x03000000)},
      {"big endian 2", unsupported, {"big-endian"}, Raw::header(0, 0, 0x02000000)},
      {"keys 2^64-1", corrupt, {"keys", "at most"}, Raw::header(0, kMax).zeros(99)},
      {"tensors 2^64-1", corrupt, {"tensors", "at most"}, Raw::header(kMax, 0).zeros(99)},
      {"keys beyond the file", corrupt, {"table of keys"}, Raw::header(0, 9).zeros(99)},
      {"tensors beyond the file", corrupt, {"table of tensors"}, Raw::header(9, 0).zeros(99)},
  };
}

std::vector<Bad> bad_keys() {
  constexpr auto corrupt = Status::corrupt_file;
  const Raw k = Raw().key("the.key", kArray);
  auto array = [&](uint32_t type, uint64_t count) { return one_key(Raw(k).u32(type).u64(count)); };
  return {
      {"name 2^64-1", corrupt, {"key number 0", "name"}, one_key(Raw().u64(kMax))},
      {"name 65536", corrupt, {"key number 0", "65535"}, one_key(Raw().u64(65536).zeros(70000))},
      {"name beyond the file", corrupt, {"key number 0", "truncated"}, one_key(Raw().u64(999))},
      {"no name", corrupt, {"key number 0", "empty"}, one_key(Raw().key("", kU8))},
      {"value type 13", corrupt, {"'the.key'", "13"}, one_key(Raw().key("the.key", 13))},
      {"bool 2",
       corrupt,
       {"'the.key'", "bool is 2"},
       one_key(Raw().key("the.key", kBool).put<uint8_t>(2))},
      {"string 2^64-1", corrupt, {"'the.key'"}, one_key(Raw().key("the.key", kString).u64(kMax))},
      {"string 2^63",
       corrupt,
       {"'the.key'"},
       one_key(Raw().key("the.key", kString).u64(uint64_t{1} << 63))},
      {"string beyond the file",
       corrupt,
       {"'the.key'", "truncated"},
       one_key(Raw().key("the.key", kString).u64(65))},
      {"array 2^64-1", corrupt, {"'the.key'"}, array(kU8, kMax)},
      {"array whose bytes wrap", corrupt, {"'the.key'"}, array(kU64, uint64_t{1} << 61)},
      {"array beyond the file", corrupt, {"'the.key'", "truncated"}, array(kI32, 17)},
      {"strings 2^61", corrupt, {"'the.key'", "strings"}, array(kString, uint64_t{1} << 61)},
      {"strings beyond the file", corrupt, {"'the.key'", "strings"}, array(kString, 9)},
      {"bools 2^63", corrupt, {"'the.key'", "bools"}, array(kBool, uint64_t{1} << 63)},
      {"bools of 3",
       corrupt,
       {"'the.key'", "bool is 3"},
       one_key(Raw(k).u32(kBool).u64(2).put<uint8_t>(1).put<uint8_t>(3))},
      {"array of type 77", corrupt, {"'the.key'", "77"}, array(77, 1)},
      {"nested array", Status::unsupported, {"'the.key'", "array of arrays"}, array(kArray, 1)},
      {"key twice",
       corrupt,
       {"'the.key'", "twice"},
       Raw::header(0, 2).key("the.key", kU32).u32(1).key("the.key", kU32).u32(1)},
      {"alignment 0",
       corrupt,
       {"general.alignment", "power of two"},
       one_key(Raw().key("general.alignment", kU32).u32(0))},
      {"alignment 48",
       corrupt,
       {"general.alignment", "48"},
       one_key(Raw().key("general.alignment", kU32).u32(48))},
      {"alignment 2^63",
       corrupt,
       {"general.alignment", "power of two"},
       one_key(Raw().key("general.alignment", kU64).u64(uint64_t{1} << 63))},
      {"alignment as text",
       corrupt,
       {"general.alignment", "string"},
       one_key(Raw().key("general.alignment", kString).text("32"))},
      {"split in 3",
       Status::unsupported,
       {"'split.count'", "3", "merge"},
       one_key(Raw().key("split.count", kU32).u32(3))},
      {"alignment -32",
       corrupt,
       {"general.alignment", "-32"},
       one_key(Raw().key("general.alignment", kI32).put<int32_t>(-32))},
      {"name in binary", corrupt, {"'a\\x0a\\xff'"}, one_key(Raw().key("a\n\xff", 99))},
  };
}

std::vector<Bad> bad_tensors() {
  constexpr auto corrupt = Status::corrupt_file;
  constexpr auto unsupported = Status::unsupported;
  auto ranked = [](uint32_t rank) {
    Raw raw = Raw().text("the.tensor").u32(rank);
    for (uint32_t i = 0; i < std::min(rank, 8u); ++i) raw.u64(1);
    return one_tensor(raw.u32(kF32).u64(0));
  };
  auto shaped = [](uint64_t columns, uint64_t rows, uint32_t type) {
    return one_tensor(Raw().tensor("the.tensor", columns, rows, type, 0));
  };
  auto placed = [](uint64_t offset) {
    return one_tensor(Raw().tensor("the.tensor", 4, 1, kF32, offset));
  };
  // One of 4 columns, and one at the beginning.
  auto two = [](const char* name, uint64_t offset, const char* first, uint64_t columns) {
    return Raw::header(2, 0)
        .tensor(name, 4, 1, kF32, offset)
        .tensor(first, columns, 1, kF32, 0)
        .pad()
        .zeros(64);
  };
  return {
      {"no name", corrupt, {"tensor number 0", "empty"}, one_tensor(Raw().tensor("", 4, 1, 0, 0))},
      {"name of 65 bytes",
       corrupt,
       {"tensor number 0", "64"},
       one_tensor(Raw().tensor(std::string(65, 'n'), 4, 1, 0, 0))},
      {"name 2^64-1", corrupt, {"tensor number 0"}, one_tensor(Raw().u64(kMax).zeros(40))},
      {"no dimensions", corrupt, {"'the.tensor'", "0 dimensions"}, ranked(0)},
      {"five dimensions", corrupt, {"'the.tensor'", "5 dimensions"}, ranked(5)},
      {"2^32-1 dimensions", corrupt, {"'the.tensor'", "4294967295"}, ranked(0xffffffff)},
      {"rows of nothing", corrupt, {"'the.tensor'", "length 0"}, shaped(0, 1, kF32)},
      {"no rows", corrupt, {"'the.tensor'", "length 0"}, shaped(1, 0, kF32)},
      {"product wraps to 0",
       corrupt,
       {"'the.tensor'", "overflow"},
       shaped(uint64_t{1} << 32, uint64_t{1} << 32, kF32)},
      {"bytes wrap", corrupt, {"'the.tensor'", "overflow"}, shaped(uint64_t{1} << 62, 1, kF32)},
      {"elements beyond 63 bits",
       corrupt,
       {"'the.tensor'", "overflow"},
       shaped(uint64_t{1} << 62, 2, kQ4K)},
      {"2^64-1 columns", corrupt, {"'the.tensor'", "overflow"}, shaped(kMax, kMax, kF32)},
      {"half a block", corrupt, {"'the.tensor'", "48", "Q8_0", "32"}, shaped(48, 1, kQ80)},
      {"half a K block", corrupt, {"'the.tensor'", "128", "Q4_K", "256"}, shaped(128, 2, kQ4K)},
      {"type Q2_K",
       unsupported,
       {"'the.tensor'", "Q2_K", "Q4_0, Q4_1, Q5_0"},
       shaped(256, 1, kQ2K)},
      {"type I32", unsupported, {"'the.tensor'", "I32"}, shaped(4, 1, 26)},
      {"type 99", unsupported, {"'the.tensor'", "number 99"}, shaped(4, 1, 99)},
      {"offset between", corrupt, {"'the.tensor'", "alignment 32"}, placed(16)},
      {"offset behind the end", corrupt, {"'the.tensor'", "only 256"}, placed(256)},
      {"offset wraps", corrupt, {"'the.tensor'"}, placed(kMax - 31)},
      {"larger than the file", corrupt, {"'the.tensor'", "truncated"}, shaped(65, 1, kF32)},
      {"name twice", corrupt, {"'the.tensor'", "twice"}, two("the.tensor", 32, "the.tensor", 4)},
      {"overlap", corrupt, {"'first'", "'second'", "overlap"}, two("second", 32, "first", 9)},
      {"the same bytes", corrupt, {"'first'", "'second'", "overlap"}, two("second", 0, "first", 4)},
  };
}

void expect_all(const std::vector<Bad>& files) {
  const test::TempFolder folder;
  const std::string path = folder.file("bad.gguf");
  for (const Bad& bad : files) {
    SCOPED_TRACE(bad.name);
    test::save(path, bad.file.bytes());
    std::vector<std::string> named = bad.named;
    named.push_back(path);
    expect_error(bad.status, named, [&] { Reader reader(path); });
  }
}

TEST(GgufReaderErrors, Header) {
  expect_all(bad_headers());
}
TEST(GgufReaderErrors, Keys) {
  expect_all(bad_keys());
}
TEST(GgufReaderErrors, Tensors) {
  expect_all(bad_tensors());
}

TEST(GgufReaderErrors, ThingsThatAreNotFiles) {
  const test::TempFolder folder;
  auto open = [](const std::string& path) { return [path] { Reader reader(path); }; };
  const std::string missing = folder.file("missing.gguf");
  expect_error(Status::not_found, {missing}, open(missing));
  expect_error(Status::not_found, {missing}, open(missing + "/inside"));
  expect_error(Status::not_found, {}, open(""));
  expect_error(Status::io_error, {folder.path().string(), "directory"},
               open(folder.path().string()));
  const std::string fifo = folder.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_error(Status::io_error, {fifo, "regular"}, open(fifo));  // and does not wait
  expect_error(Status::invalid_argument, {"NUL"}, open(std::string("a\0b", 3)));
  if (::geteuid() != 0) {  // root may read everything
    const std::string secret = folder.file("secret.gguf");
    test::save(secret, Raw::header(0, 0).bytes());
    ASSERT_EQ(::chmod(secret.c_str(), 0), 0);
    expect_error(Status::io_error, {secret}, open(secret));
  }
}

// A file with every kind of entry. Its last tensor ends the file, so every cut hurts.
std::string small_file(const test::TempFolder& folder) {
  const std::string path = folder.file("small.gguf");
  const std::vector<float> data(16, 1.0f);
  Writer writer(path);
  writer.set("general.alignment", uint32_t{32});
  writer.set("bool", true);
  writer.set("text", "some text");
  writer.set("f64", 1.5);
  writer.set("texts", std::vector<std::string>{"a", "bc", ""});
  writer.set("ints", std::vector<int16_t>{1, 2, 3});
  writer.set("bools", std::vector<bool>{true, false});
  writer.add_tensor("vector", DType::f32, {16}, data.data());
  writer.add_tensor("matrix", DType::q8_0, {32, 1}, data.data());
  writer.add_tensor("cube", DType::f16, {4, 2, 2}, data.data());
  writer.finish();
  return path;
}

TEST(GgufReaderErrors, CutAtEveryByte) {
  const test::TempFolder folder;
  const std::string path = small_file(folder);
  Reader whole(path);
  for (uint64_t size = whole.file_bytes(); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    SCOPED_TRACE(size);
    expect_error(Status::corrupt_file, {path}, [&] { Reader reader(path); });
  }
}

TEST(GgufReaderErrors, EveryByteChanged) {
  const test::TempFolder folder;
  const std::string path = small_file(folder);
  const std::string good = test::load(path);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  auto put = [&](size_t at, char byte) { file.seekp(std::streamoff(at)).put(byte).flush(); };
  int loaded = 0, refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xff}) {
      put(i, static_cast<char>(good[i] ^ change));
      try {
        Reader reader(path);
        for (const Tensor& tensor : reader.tensors()) {
          std::vector<char> data(tensor.bytes);
          reader.read(tensor, 0, data.data(), data.size());
        }
        ++loaded;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
        ++refused;
      }
    }
    put(i, good[i]);
  }
  ASSERT_TRUE(file.good());
  EXPECT_EQ(test::load(path), good);
  EXPECT_GT(loaded, 0);  // a changed weight or character is not an error
  EXPECT_GT(refused, 0);
}

TEST(GgufReaderErrors, FileThatShrinksWhileOpen) {
  const test::TempFolder folder;
  const std::string path = small_file(folder);
  const Reader reader(path);
  const Tensor& last = *reader.find_tensor("cube");
  std::vector<char> data(last.bytes);
  std::filesystem::resize_file(path, last.offset + 5);
  reader.read(last, 0, data.data(), 5);
  expect_error(Status::corrupt_file, {path, "truncated"},
               [&] { reader.read(last, 0, data.data(), 6); });
}

TEST(GgufReaderErrors, ReadsOutsideATensor) {
  const test::TempFolder folder;
  const std::string path = small_file(folder);
  const Reader reader(path);
  const Tensor& tensor = *reader.find_tensor("vector");  // 64 bytes
  char byte = 0;
  for (const auto& [offset, bytes] : {std::pair{uint64_t{64}, uint64_t{1}},
                                      {uint64_t{0}, uint64_t{65}},
                                      {uint64_t{1}, kMax},
                                      {kMax, uint64_t{1}},
                                      {kMax, kMax}}) {
    expect_error(Status::invalid_argument, {path, "'vector'", "64"},
                 [&, o = offset, b = bytes] { reader.read(tensor, o, &byte, b); });
  }
}

TEST(GgufReaderErrors, HeaderLargerThanTheLimit) {
  const test::TempFolder folder;
  const std::string path = folder.file("large.gguf");
  test::save(path, Raw::header(0, 1).key("the.key", kString).u64(uint64_t{280} << 20).bytes());
  std::filesystem::resize_file(path, uint64_t{300} << 20);  // sparse: takes no disk
  expect_error(Status::corrupt_file, {path, "'the.key'", "256 MiB"}, [&] { Reader reader(path); });
}

}  // namespace
}  // namespace tessera::gguf
