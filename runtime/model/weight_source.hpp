// Hands an architecture its tensors one by one: checks the shape, streams the data into the
// backend, hashes it, reports progress.
#pragma once

#include <xxhash.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "runtime/gguf/reader.hpp"

namespace tessera::model {

// Returns false to stop the load. Called on the loading thread with the share done, 0 to 1.
using LoadProgress = std::function<bool(float)>;

struct Fingerprint {
  uint64_t low = 0;
  uint64_t high = 0;
};

class WeightSource {
 public:
  // Both must outlive the source.
  WeightSource(const gguf::Reader& reader, Backend& backend, LoadProgress progress);

  // The tensor `name` as a [rows][columns] weight; rows 1 takes a one-dimensional tensor. Throws
  // corrupt_file when it is missing or has another shape, cancelled when progress says so, and what
  // reading and the backend throw.
  std::unique_ptr<Weight> load(const std::string& name, uint32_t rows, uint32_t columns,
                               uint32_t uses = kUseMatmul);
  bool has(const std::string& name) const { return reader_.find_tensor(name) != nullptr; }
  // A small one-dimensional F32 tensor to be used on the host.
  std::vector<float> load_host(const std::string& name, uint32_t columns);
  const gguf::Reader& reader() const { return reader_; }

  // Call when the architecture has taken all it knows: throws unsupported naming a tensor that
  // nobody took, because a model computed without it would be wrong.
  void finish() const;
  // Over the file's header and tensor table, and the data of the tensors taken, in that order.
  Fingerprint fingerprint() const;

 private:
  const gguf::Tensor& take(const std::string& name, uint32_t rows, uint32_t columns);
  void account(const void* data, uint64_t bytes);

  const gguf::Reader& reader_;
  Backend& backend_;
  LoadProgress progress_;
  std::set<std::string, std::less<>> taken_;
  uint64_t bytes_total_ = 0;
  uint64_t bytes_done_ = 0;
  struct FreeHash {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, FreeHash> hash_;
};

}  // namespace tessera::model
