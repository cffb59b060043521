#include "runtime/engine/gate_store.hpp"

#include <xxhash.h>

#include <bit>
#include <cstdio>
#include <cstring>
#include <span>

namespace tessera::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// Counts the format, and what a change of the engine makes of old measurements.
constexpr uint64_t kMagic = 0x3130657461677374;  // "tsgate01"

// docs/chunk-files.md
constexpr size_t kFileBytes = 8 + sizeof(GateKey::Bytes) + 5 * 4 + 2 * 8 + 8;
using File = std::array<uint8_t, kFileBytes>;

class Writer {
 public:
  explicit Writer(std::span<uint8_t> out) : out_(out) {}
  template <typename... T>
  void put(const T&... values) {
    (put_one(values), ...);
  }

 private:
  template <typename T>
  void put_one(const T& value) {
    std::memcpy(out_.data(), &value, sizeof value);
    out_ = out_.subspan(sizeof value);
  }
  std::span<uint8_t> out_;
};

File encode(const GateKey& key, const GateResult& r) {
  File file;
  Writer to(file);
  to.put(kMagic, key.bytes(), r.kl_mean, r.kl_first, r.kl_p90, r.top1, r.recomputed, r.prompts,
         r.tokens);
  to.put(XXH3_64bits(file.data(), kFileBytes - 8));
  return file;
}

// None where the file is damaged or another setting's.
std::optional<GateResult> decode(const File& file, const GateKey& key) {
  GateResult r;
  const uint8_t* at = file.data() + 8 + sizeof(GateKey::Bytes);
  const auto get = [&](auto&... values) {
    ((std::memcpy(&values, at, sizeof values), at += sizeof values), ...);
  };
  get(r.kl_mean, r.kl_first, r.kl_p90, r.top1, r.recomputed, r.prompts, r.tokens);
  // What this key and result would be written as: one comparison for all that may be wrong.
  if (encode(key, r) != file) return std::nullopt;
  return r;
}

}  // namespace

GateKey::Bytes GateKey::bytes() const {
  Bytes bytes;
  Writer(bytes).put(base.low, base.high, static_cast<uint32_t>(math), static_cast<uint32_t>(repair),
                    head_tokens, select_share, select_layers);
  return bytes;
}

std::string GateKey::file_name() const {
  const Bytes all = bytes();
  const XXH128_hash_t hash = XXH3_128bits_withSeed(all.data(), all.size(), kMagic);
  std::array<char, 40> name;
  std::snprintf(name.data(), name.size(), "%016llx%016llx.gate",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return name.data();
}

std::string GateStore::put(const GateKey& key, const GateResult& result) {
  const std::string name = key.file_name();
  std::lock_guard guard(lock_);
  std::string why;
  if (folder_) {
    if (const int error = folder_->publish(name, encode(key, result)); error != 0) {
      why = folder_->path() + "/" + name + ": cannot write: " + kv::error_text(error);
    }
  }
  known_[key.bytes()] = result;
  return why;
}

std::optional<GateResult> GateStore::find(const GateKey& key) {
  const std::string name = key.file_name();
  std::lock_guard guard(lock_);
  if (const auto it = known_.find(key.bytes()); it != known_.end()) return it->second;
  if (!folder_) return std::nullopt;
  const kv::SharedFile from = folder_->open(name);
  if (!from) return std::nullopt;
  File file;
  std::optional<GateResult> result;
  if (from.bytes() == file.size()) {
    const int64_t got = from.read(file);
    if (got < 0) return std::nullopt;
    if (static_cast<size_t>(got) == file.size()) result = decode(file, key);
  }
  if (result) {
    known_.emplace(key.bytes(), *result);
  } else {
    folder_->remove(name);
  }
  return result;
}

}  // namespace tessera::engine
