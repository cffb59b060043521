#include "runtime/model/weight_source.hpp"

#include <algorithm>
#include <new>

namespace tessera::model {
namespace {

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace

WeightSource::WeightSource(const gguf::Reader& reader, Backend& backend, LoadProgress progress)
    : reader_(reader), backend_(backend), progress_(std::move(progress)) {
  uint64_t header_bytes = reader.file_bytes();
  for (const gguf::Tensor& tensor : reader.tensors()) {
    bytes_total_ += tensor.bytes;
    header_bytes = std::min(header_bytes, tensor.offset);
  }
  hash_.reset(XXH3_createState());
  if (!hash_) throw std::bad_alloc();
  XXH3_128bits_reset(hash_.get());
  // Keys and tensor table, so that two files that differ in a number differ in the fingerprint.
  std::vector<uint8_t> buffer(1 << 16);
  for (uint64_t at = 0; at < header_bytes; at += buffer.size()) {
    const uint64_t bytes = std::min<uint64_t>(buffer.size(), header_bytes - at);
    reader.read_file(at, buffer.data(), bytes);
    XXH3_128bits_update(hash_.get(), buffer.data(), bytes);
  }
}

const gguf::Tensor& WeightSource::take(const std::string& name, uint32_t rows, uint32_t columns) {
  const gguf::Tensor* tensor = reader_.find_tensor(name);
  if (!tensor) {
    fail(Status::corrupt_file, reader_.path() + ": tensor " + name + " is missing");
  }
  std::vector<uint64_t> shape = tensor->shape;
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  std::vector<uint64_t> wanted = {columns};
  if (rows != 1) wanted.push_back(rows);
  if (shape != wanted) {
    fail(Status::corrupt_file, reader_.path() + ": tensor " + name + " has shape " +
                                   shape_text(tensor->shape) + ", must be " + shape_text(wanted));
  }
  taken_.insert(name);
  return *tensor;
}

void WeightSource::account(const void* data, uint64_t bytes) {
  XXH3_128bits_update(hash_.get(), data, bytes);
  bytes_done_ += bytes;
  const float share =
      static_cast<float>(static_cast<double>(bytes_done_) / static_cast<double>(bytes_total_));
  if (progress_ && !progress_(share)) {
    fail(Status::cancelled, reader_.path() + ": loading was stopped by the progress callback");
  }
}

std::unique_ptr<Weight> WeightSource::load(const std::string& name, uint32_t rows, uint32_t columns,
                                           uint32_t uses) {
  const gguf::Tensor& tensor = take(name, rows, columns);
  WeightDesc desc{name, tensor.type, rows, columns, uses};
  return backend_.load_weight(desc, [&](uint64_t offset, void* out, uint64_t bytes) {
    reader_.read(tensor, offset, out, bytes);
    account(out, bytes);
  });
}

std::vector<float> WeightSource::load_host(const std::string& name, uint32_t columns) {
  const gguf::Tensor& tensor = take(name, 1, columns);
  if (tensor.type != DType::f32) {
    fail(Status::unsupported, reader_.path() + ": tensor " + name + " has type " +
                                  dtype_info(tensor.type).name + ", must be F32");
  }
  std::vector<float> values(columns);
  reader_.read(tensor, 0, values.data(), columns * sizeof(float));
  account(values.data(), columns * sizeof(float));
  return values;
}

void WeightSource::finish() const {
  for (const gguf::Tensor& tensor : reader_.tensors()) {
    if (!taken_.contains(tensor.name)) {
      fail(Status::unsupported, reader_.path() + ": tensor " + tensor.name +
                                    " is not known to this architecture; without it the answers "
                                    "would be wrong");
    }
  }
}

Fingerprint WeightSource::fingerprint() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(hash_.get());
  return {hash.low64, hash.high64};
}

}  // namespace tessera::model
