#include "runtime/gguf/writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <type_traits>

#include "backends/error.hpp"
#include "runtime/gguf/format.hpp"

namespace tessera::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are written as they lie");

constexpr uint64_t kChunkBytes = uint64_t{1} << 20;  // of a streamed tensor at a time

[[noreturn]] void fail_io(const std::string& path, const char* action, int error) {
  fail(Status::io_error,
       path + ": cannot " + action + ": " + std::generic_category().message(error));
}

template <typename T>
void append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    append(out, uint64_t{value.size()});
    out += value;
  } else if constexpr (std::is_same_v<T, bool>) {
    out += static_cast<char>(value ? 1 : 0);
  } else {
    static_assert(std::is_arithmetic_v<T>);
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
}

template <typename T>
void append(std::string& out, const std::vector<T>& items) {
  append(out, uint64_t{items.size()});
  for (const T item : items) append(out, item);
}

void append(std::string& out, const std::vector<std::string>& items) {
  append(out, uint64_t{items.size()});
  for (const std::string& item : items) append(out, item);
}

void append(std::string& out, const Value& value) {
  append(out, static_cast<uint32_t>(value.type()));
  if (value.is_array()) append(out, static_cast<uint32_t>(value.element_type()));
  std::visit([&](const auto& stored) { append(out, stored); }, value.storage());
}

// Creates a new file beside `path`. Mode 0666 lets the umask decide, as for any other new file.
int create_beside(const std::string& path, std::string& temporary) {
  static std::atomic<uint64_t> counter{0};
  for (;;) {
    temporary = path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return descriptor;
    if (errno == EEXIST || errno == EINTR) continue;
    const int error = errno;
    temporary.clear();
    if (error == ENOENT || error == ENOTDIR) {
      fail(Status::not_found, path + ": cannot create: the folder does not exist");
    }
    fail_io(path, "create", error);
  }
}

// Makes a rename durable. Some file systems cannot sync a folder; the file itself is synced.
void sync_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

Writer::Writer(std::string path) : path_(std::move(path)) {
  if (path_.empty() || path_.find('\0') != std::string::npos) {
    fail(Status::invalid_argument, "a file path must not be empty or contain a NUL byte");
  }
  descriptor_ = create_beside(path_, temporary_);
}

Writer::~Writer() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void Writer::set(std::string_view key, Value value) {
  if (key.empty() || key.size() > kMaxKeyBytes) {
    fail(Status::invalid_argument, path_ + ": a key of " + std::to_string(key.size()) +
                                       " bytes; 1 to " + std::to_string(kMaxKeyBytes) +
                                       " are allowed");
  }
  if (key == kAlignmentKey) {
    const auto* alignment = value.get_if<uint32_t>();
    if (alignment == nullptr || !valid_alignment(*alignment)) {
      fail(Status::invalid_argument,
           path_ + ": key 'general.alignment' must be a u32, a power of two up to 2^30");
    }
  }
  for (auto& [name, old] : values_) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  values_.emplace_back(std::string(key), std::move(value));
}

void Writer::add_tensor(std::string name, DType type, std::vector<uint64_t> shape, Source source) {
  const std::string where = path_ + ": tensor " + quoted(name) + ": ";
  if (name.empty() || name.size() > kMaxTensorNameBytes) {
    fail(Status::invalid_argument,
         where + "the name has " + std::to_string(name.size()) + " bytes; 1 to 64 are allowed");
  }
  for (const Entry& entry : tensors_) {
    if (entry.name == name) fail(Status::invalid_argument, where + "the name is already taken");
  }
  if (!source) fail(Status::invalid_argument, where + "needs a source of data");
  uint64_t bytes = 0;
  const std::string wrong = check_shape(type, shape, bytes);
  if (!wrong.empty()) fail(Status::invalid_argument, where + wrong);
  tensors_.push_back({std::move(name), type, std::move(shape), bytes, std::move(source)});
}

void Writer::add_tensor(std::string name, DType type, std::vector<uint64_t> shape,
                        const void* data) {
  Source source;
  if (data != nullptr) {
    source = [data](uint64_t offset, void* out, uint64_t bytes) {
      std::memcpy(out, static_cast<const char*>(data) + offset, bytes);
    };
  }
  add_tensor(std::move(name), type, std::move(shape), std::move(source));
}

uint64_t Writer::alignment() const {
  for (const auto& [key, value] : values_) {
    if (key == kAlignmentKey) return *value.get_if<uint32_t>();
  }
  return kDefaultAlignment;
}

// Everything before the tensor data, without the padding.
std::string Writer::header() const {
  std::string out;
  append(out, kMagic);
  append(out, kMaxVersion);
  append(out, uint64_t{tensors_.size()});
  append(out, uint64_t{values_.size()});
  for (const auto& [key, value] : values_) {
    append(out, key);
    append(out, value);
  }
  uint64_t offset = 0;
  for (const Entry& tensor : tensors_) {
    append(out, tensor.name);
    append(out, static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t length : tensor.shape) append(out, length);
    append(out, type_id(tensor.type));
    append(out, offset);
    // Each tensor has fewer than 2^63 bytes; a sum that wraps could never be written.
    if (tensor.bytes > (uint64_t{1} << 63) - kMaxAlignment - offset) {
      fail(Status::invalid_argument,
           path_ + ": tensor " + quoted(tensor.name) + ": all tensors together exceed 2^63 bytes");
    }
    offset = align_up(offset + tensor.bytes, alignment());
  }
  if (out.size() > kMaxHeaderBytes || values_.size() > kMaxKeys || tensors_.size() > kMaxTensors) {
    fail(Status::invalid_argument, path_ + ": more metadata than docs/gguf.md allows");
  }
  return out;
}

void Writer::finish() {
  if (std::exchange(finish_called_, true)) {
    fail(Status::invalid_argument, path_ + ": finish was already called");
  }
  const std::string head = header();
  write(head.data(), head.size());
  pad_to(alignment());
  std::vector<char> chunk;
  for (const Entry& tensor : tensors_) {
    for (uint64_t done = 0; done < tensor.bytes;) {
      const uint64_t step = std::min(kChunkBytes, tensor.bytes - done);
      chunk.resize(step);
      tensor.source(done, chunk.data(), step);
      write(chunk.data(), step);
      done += step;
    }
    pad_to(alignment());
  }

  if (::fsync(descriptor_) != 0) fail_io(path_, "sync", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_io(path_, "close", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io(path_, "rename to it", errno);
  temporary_.clear();
  sync_folder(path_);
}

void Writer::write(const void* data, uint64_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(descriptor_, from, std::min(bytes, uint64_t{1} << 30));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_io(path_, "write", errno);
    from += put;
    written_ += static_cast<uint64_t>(put);
    bytes -= static_cast<uint64_t>(put);
  }
}

void Writer::pad_to(uint64_t alignment) {
  const uint64_t padding = align_up(written_, alignment) - written_;
  const std::vector<char> zeros(std::min(padding, kChunkBytes));
  for (uint64_t done = 0; done < padding;) {
    const uint64_t step = std::min<uint64_t>(zeros.size(), padding - done);
    write(zeros.data(), step);
    done += step;
  }
}

}  // namespace tessera::gguf
