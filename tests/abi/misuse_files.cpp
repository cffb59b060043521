// Model files that are missing, no files, damaged or for someone else: each gets its status and a
// message that names the file and what is wrong in it.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/abi/fixture.hpp"
#include "tests/abi/model_file.hpp"

namespace tsr_test {
namespace {

constexpr uint64_t kNul = TSR_NUL_TERMINATED;

class Files : public AbiTest {
 protected:
  tsr_status load(const std::string& path, const tsr_model_options* options = nullptr) {
    Model loaded;
    return tsr_model_load(runtime, path.data(), path.size(), options, loaded.out());
  }

  // The tiny model's bytes, changed, as a file of that name.
  static std::string variant(const std::string& name, const std::string& bytes) {
    std::string path = scratch(name);
    write_file(path, bytes);
    return path;
  }

  // The tiny model with `from` replaced by `to`, of the same length, everywhere after `after`.
  static std::string replaced(const std::string& from, const std::string& to,
                              const std::string& after = "GGUF") {
    EXPECT_EQ(from.size(), to.size());
    std::string bytes = read_file(model_path());
    const size_t at = bytes.find(from, bytes.find(after));
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) bytes.replace(at, from.size(), to);
    return bytes;
  }

  // Bytes of a number as GGUF has them, little endian.
  template <typename T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
};

TEST_F(Files, Missing) {
  const std::string path = scratch("no-such-file.gguf");
  EXPECT_FAILS(load(path), TSR_NOT_FOUND, path);
  EXPECT_FAILS(load("/no/such/folder/model.gguf"), TSR_NOT_FOUND, "/no/such/folder/model.gguf");
  EXPECT_FAILS(load(model_path() + "/inside"), TSR_NOT_FOUND, model_path());
}

TEST_F(Files, PathsThatAreNone) {
  EXPECT_FAILS(load(""), TSR_INVALID_ARGUMENT, "path");
  EXPECT_FAILS(load(std::string("a\0b", 3)), TSR_INVALID_ARGUMENT, "path");
  const std::string endless(100'000, 'x');
  Model loaded;
  const tsr_status status =
      tsr_model_load(runtime, endless.data(), endless.size(), nullptr, loaded.out());
  EXPECT_TRUE(status == TSR_NOT_FOUND || status == TSR_INVALID_ARGUMENT || status == TSR_IO_ERROR)
      << tsr_status_name(status);
  for (uint64_t length : {UINT64_MAX - 1, UINT64_C(1) << 62, UINT64_C(1) << 40}) {
    EXPECT_FAILS(tsr_model_load(runtime, "model", length, nullptr, loaded.out()),
                 TSR_INVALID_ARGUMENT, "path");
  }
}

TEST_F(Files, NotRegularFiles) {
  EXPECT_FAILS(load("/"), TSR_IO_ERROR, "/", "directory");
  EXPECT_FAILS(load(scratch("")), TSR_IO_ERROR, "directory");
  // Neither may be waited for or read to an end that never comes.
  const std::string fifo = scratch("fifo");
  unlink(fifo.c_str());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_FAILS(load(fifo), TSR_IO_ERROR, fifo, "regular file");
  EXPECT_FAILS(load("/dev/zero"), TSR_IO_ERROR, "/dev/zero", "regular file");
}

TEST_F(Files, Unreadable) {
  const std::string path = variant("secret.gguf", read_file(model_path()));
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const bool root = geteuid() == 0;  // may read every file, so becomes nobody meanwhile
  if (root && seteuid(65534) != 0) GTEST_SKIP() << "root cannot become another user here";
  EXPECT_FAILS(load(path), TSR_IO_ERROR, path, "ermission");
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
}

TEST_F(Files, Empty) {
  const std::string path = variant("empty.gguf", "");
  EXPECT_FAILS(load(path), TSR_CORRUPT_FILE, path);
}

// Cut anywhere, the file is refused; near the end, too, where only weights are missing.
TEST_F(Files, Truncated) {
  const std::string whole = read_file(model_path());
  std::vector<size_t> cuts = {1, 3, 4, 5, 8, 15, 16, 23, 24, 31, 40, 100, 1000, 5000};
  for (size_t cut : {whole.size() / 4, whole.size() / 2, whole.size() - 1000, whole.size() - 1}) {
    cuts.push_back(cut);
  }
  for (size_t cut : cuts) {
    ASSERT_LT(cut, whole.size());
    const std::string path = variant("cut.gguf", whole.substr(0, cut));
    EXPECT_FAILS(load(path), TSR_CORRUPT_FILE, path) << "cut at " << cut;
  }
}

TEST_F(Files, NoGguf) {
  EXPECT_FAILS(load(variant("text.gguf", std::string(5000, 'x'))), TSR_CORRUPT_FILE, "text.gguf",
               "GGUF");
  EXPECT_FAILS(load(variant("zeros.gguf", std::string(5000, '\0'))), TSR_CORRUPT_FILE,
               "zeros.gguf");
  EXPECT_FAILS(load(variant("ones.gguf", std::string(5000, '\xff'))), TSR_CORRUPT_FILE,
               "ones.gguf");
}

TEST_F(Files, Versions) {
  std::string bytes = read_file(model_path());
  auto with_version = [&](uint32_t version) {
    return variant("version.gguf", bytes.replace(4, 4, raw(version)));
  };
  EXPECT_FAILS(load(with_version(1)), TSR_UNSUPPORTED, "version.gguf", "version 1");
  EXPECT_FAILS(load(with_version(4)), TSR_UNSUPPORTED, "version.gguf", "version 4");
  EXPECT_FAILS(load(with_version(0x03000000)), TSR_UNSUPPORTED, "version.gguf", "endian");
}

// Numbers of keys and tensors, and lengths, that no file of that size can hold.
TEST_F(Files, CountsThatCannotBe) {
  const std::string whole = read_file(model_path());
  for (uint64_t count : {UINT64_MAX, UINT64_MAX / 2, UINT64_C(1) << 60, UINT64_C(1) << 32}) {
    for (size_t at : {size_t{8}, size_t{16}, size_t{24}}) {  // tensors, keys, first key's length
      std::string bytes = whole;
      bytes.replace(at, 8, raw(count));
      const std::string path = variant("count.gguf", bytes);
      EXPECT_FAILS(load(path), TSR_CORRUPT_FILE, path) << count << " at " << at;
    }
  }
}

TEST_F(Files, ForSomeoneElse) {
  EXPECT_FAILS(load(variant("arch.gguf", replaced("llama", "lxama", "general.architecture"))),
               TSR_UNSUPPORTED, "arch.gguf", "lxama", "llama");
  EXPECT_FAILS(load(variant("tokens.gguf", replaced("gpt2", "gptx", "tokenizer.ggml.model"))),
               TSR_UNSUPPORTED, "tokens.gguf", "gptx", "gpt2");
  EXPECT_FAILS(load(variant("pre.gguf", replaced("smollm", "smellm", "tokenizer.ggml.pre"))),
               TSR_UNSUPPORTED, "pre.gguf", "smellm", "smollm");
}

TEST_F(Files, KeysAndTensorsThatAreMissing) {
  EXPECT_FAILS(load(variant("key.gguf", replaced("llama.block_count", "llama.block_cxxnt"))),
               TSR_CORRUPT_FILE, "key.gguf", "llama.block_count");
  EXPECT_FAILS(load(variant("tensor.gguf", replaced("output_norm.weight", "output_nxrm.weight"))),
               TSR_CORRUPT_FILE, "tensor.gguf", "output_norm.weight");
}

TEST_F(Files, TensorTypes) {
  // Behind a tensor's name: uint32 dimensions, as many uint64 lengths, uint32 type, uint64 offset.
  const std::string name = "token_embd.weight";
  std::string bytes = read_file(model_path());
  const size_t type_at = bytes.find(name) + name.size() + 4 + 2 * 8;
  ASSERT_EQ(bytes.substr(type_at, 4), raw(uint32_t{0})) << "not the type F32";
  for (uint32_t type : {4u, 10u, 31u, 999u, UINT32_MAX}) {  // removed, Q2_K, removed, unknown
    bytes.replace(type_at, 4, raw(type));
    EXPECT_FAILS(load(variant("type.gguf", bytes)), TSR_UNSUPPORTED, "type.gguf", name);
  }
  bytes = read_file(model_path());
  for (uint64_t length : {uint64_t{0}, UINT64_MAX, UINT64_C(1) << 40}) {
    bytes.replace(type_at - 16, 8, raw(length));
    EXPECT_FAILS(load(variant("shape.gguf", bytes)), TSR_CORRUPT_FILE, "shape.gguf", name);
  }
}

TEST_F(Files, DevicesThatAreNone) {
  tsr_model_options options = prepared(tsr_model_options_init);
  options.device = "quantum0";
  options.device_length = kNul;
  EXPECT_FAILS(load(model_path(), &options), TSR_NOT_FOUND, "quantum0");
  uint32_t count = 0;
  ASSERT_OK(tsr_device_count(runtime, &count));
  ASSERT_GT(count, 0u);
  tsr_device_info info = prepared(tsr_device_info_init);
  EXPECT_FAILS(tsr_device_get(runtime, count, &info), TSR_INVALID_ARGUMENT, "index");
  EXPECT_FAILS(tsr_device_get(runtime, UINT32_MAX, &info), TSR_INVALID_ARGUMENT, "index");
  // Every device is loadable from or says why not; one is there on every machine.
  bool any = false;
  for (uint32_t i = 0; i < count; ++i) {
    ASSERT_OK(tsr_device_get(runtime, i, &info));
    EXPECT_NE(info.id[0], '\0');
    any |= info.available == 1;
    EXPECT_EQ(info.reason[0] == '\0', info.available == 1) << info.id;
    options.device = info.id;
    if (info.available) {
      EXPECT_OK(load(model_path(), &options));
    } else {
      EXPECT_FAILS(load(model_path(), &options), TSR_UNSUPPORTED, info.id);
    }
  }
  EXPECT_TRUE(any);
}

struct Progress {
  std::vector<float> seen;
  float stop_at;
};

int32_t record(void* user_data, float fraction) {
  auto* progress = static_cast<Progress*>(user_data);
  progress->seen.push_back(fraction);
  return fraction >= progress->stop_at;
}

TEST_F(Files, ProgressCanStopALoad) {
  Progress progress = {{}, 2.0f};
  tsr_model_options options = prepared(tsr_model_options_init);
  options.progress = record;
  options.progress_user_data = &progress;
  EXPECT_OK(load(model_path(), &options));
  ASSERT_FALSE(progress.seen.empty());
  EXPECT_TRUE(std::is_sorted(progress.seen.begin(), progress.seen.end()));
  EXPECT_GE(progress.seen.front(), 0.0f);
  EXPECT_EQ(progress.seen.back(), 1.0f);
  for (float stop : {0.0f, 0.5f}) {
    progress = {{}, stop};
    EXPECT_FAILS(load(model_path(), &options), TSR_CANCELLED, model_path());
    EXPECT_GE(progress.seen.back(), stop);
  }
}

// The file is not needed after the load: it may be cut, changed or removed.
TEST_F(Files, MayGoAfterTheLoad) {
  const std::string path = variant("gone.gguf", read_file(model_path()));
  Model loaded;
  ASSERT_OK(tsr_model_load(runtime, path.c_str(), kNul, nullptr, loaded.out()));
  write_file(path, "no more");
  EXPECT_TRUE(works(new_context(loaded, small_context())));
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_TRUE(works(new_context(loaded, small_context())));
}

}  // namespace
}  // namespace tsr_test
