#include "runtime/engine/gate_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>

namespace tessera::engine {
namespace {

// A file, little-endian: magic u64, the key (u64, u64, u32, u32, u32, f32, f32), the result (5 f32,
// u64, u64), XXH3 of all that u64. The magic counts the format, and what a change of the engine
// makes of old measurements.
constexpr uint64_t kMagic = 0x3130657461677374;  // "tsgate01"
constexpr size_t kKeyBytes = 2 * 8 + 5 * 4;
constexpr size_t kFileBytes = 8 + kKeyBytes + 5 * 4 + 2 * 8 + 8;

using File = std::array<char, kFileBytes>;

class Writer {
 public:
  explicit Writer(char* at) : at_(at) {}
  template <typename T>
  void put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  char* at_;
};

class Reader {
 public:
  explicit Reader(const char* at) : at_(at) {}
  template <typename T>
  void get(T& value) {
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
  }

 private:
  const char* at_;
};

void write_key(Writer& to, const GateKey& key) {
  to.put(key.base.low);
  to.put(key.base.high);
  to.put(static_cast<uint32_t>(key.math));
  to.put(static_cast<uint32_t>(key.repair));
  to.put(key.head_tokens);
  to.put(key.select_share);
  to.put(key.select_layers);
}

uint64_t checksum(const File& file) {
  return XXH3_64bits(file.data(), kFileBytes - 8);
}

File encode(const GateKey& key, const GateResult& result) {
  File file;
  Writer to(file.data());
  to.put(kMagic);
  write_key(to, key);
  for (const float value :
       {result.kl_mean, result.kl_first, result.kl_p90, result.top1, result.recomputed}) {
    to.put(value);
  }
  to.put(result.prompts);
  to.put(result.tokens);
  to.put(checksum(file));
  return file;
}

// None where the file is damaged or another setting's.
std::optional<GateResult> decode(const File& file, const GateKey& key) {
  GateResult result;
  Reader from(file.data() + 8 + kKeyBytes);
  for (float* value :
       {&result.kl_mean, &result.kl_first, &result.kl_p90, &result.top1, &result.recomputed}) {
    from.get(*value);
  }
  from.get(result.prompts);
  from.get(result.tokens);
  // What this key and result would be written as: one comparison for all that may be wrong.
  if (encode(key, result) != file) return std::nullopt;
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return descriptor_; }

 private:
  int descriptor_;
};

std::string failure(const std::string& path, int error) {
  return path + ": " + std::system_category().message(error);
}

// Whole, or not at all: a file beside it takes its name when it is on the disk.
std::string publish(const std::string& folder, const std::string& path, const File& file) {
  std::string draft = folder + "/.gate-XXXXXX";
  const Descriptor to(mkostemp(draft.data(), O_CLOEXEC));  // mode 0600
  if (to < 0) return failure(folder, errno);
  size_t done = 0;
  while (done < file.size()) {
    const ssize_t written = write(to, file.data() + done, file.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += static_cast<size_t>(written);
  }
  if (done == file.size() && fsync(to) == 0 && rename(draft.c_str(), path.c_str()) == 0) {
    const Descriptor entries(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (entries >= 0) fsync(entries);
    return {};
  }
  const int error = errno;
  unlink(draft.c_str());
  return failure(path, error);
}

enum class Read { missing, damaged, whole };

Read read_file(const std::string& path, File& file) {
  const Descriptor from(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (from < 0) return Read::missing;
  struct stat status {};
  if (fstat(from, &status) != 0 || !S_ISREG(status.st_mode)) return Read::missing;
  if (status.st_size != static_cast<off_t>(file.size())) return Read::damaged;
  size_t done = 0;
  while (done < file.size()) {
    const ssize_t count = read(from, file.data() + done, file.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Read::missing;
    if (count == 0) return Read::damaged;
    done += static_cast<size_t>(count);
  }
  return Read::whole;
}

}  // namespace

std::string GateKey::name() const {
  std::array<char, kKeyBytes> bytes;
  Writer to(bytes.data());
  write_key(to, *this);
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), kMagic);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  name.reserve(32);
  for (const uint64_t half : {hash.high64, hash.low64}) {
    for (int shift = 60; shift >= 0; shift -= 4) name += kDigits[half >> shift & 15];
  }
  return name;
}

void GateStore::set_folder(std::string folder) {
  std::lock_guard guard(lock_);
  folder_ = std::move(folder);
}

std::string GateStore::path_of(const std::string& name) const {
  return folder_ + "/" + name + ".gate";
}

std::string GateStore::put(const GateKey& key, const GateResult& result) {
  const std::string name = key.name();
  std::lock_guard guard(lock_);
  std::string why;
  if (!folder_.empty()) why = publish(folder_, path_of(name), encode(key, result));
  known_[name] = result;
  return why;
}

std::optional<GateResult> GateStore::find(const GateKey& key) {
  const std::string name = key.name();
  std::lock_guard guard(lock_);
  if (const auto it = known_.find(name); it != known_.end()) return it->second;
  if (folder_.empty()) return std::nullopt;
  const std::string path = path_of(name);
  File file;
  const Read read = read_file(path, file);
  if (read == Read::missing) return std::nullopt;
  const std::optional<GateResult> result = read == Read::whole ? decode(file, key) : std::nullopt;
  if (result) {
    known_.emplace(name, *result);
  } else {
    unlink(path.c_str());
  }
  return result;
}

}  // namespace tessera::engine
