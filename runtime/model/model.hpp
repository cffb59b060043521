// A loaded model: tokenizer, chat template, weights on a device. Immutable; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "backends/backend.hpp"
#include "runtime/model/architecture.hpp"
#include "runtime/model/hyperparameters.hpp"
#include "runtime/model/weight_source.hpp"
#include "runtime/text/chat_template.hpp"
#include "runtime/text/tokenizer.hpp"

namespace tessera::model {

struct LoadOptions {
  std::string device;  // id; empty: the best available one
  MathMode math = MathMode::fast;
  LoadProgress progress;
};

class Model {
 public:
  // Reads a GGUF file. Throws not_found, io_error, corrupt_file, unsupported, cancelled, out of
  // memory; the message names the file and the key or tensor.
  Model(const std::string& path, const LoadOptions& options);

  const Hyperparameters& hyperparameters() const { return hyperparameters_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  const text::ChatTemplate& chat_template() const { return *chat_template_; }
  const Architecture& architecture() const { return *architecture_; }
  Backend& backend() const { return *backend_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }
  MathMode math() const { return math_; }
  bool adds_bos() const { return adds_bos_; }
  uint64_t file_bytes() const { return file_bytes_; }
  // Name of the type that holds most parameters: "Q4_1".
  const std::string& weight_type() const { return weight_type_; }

 private:
  std::unique_ptr<Backend> backend_;  // first in, last out: the weights need it
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> chat_template_;
  Hyperparameters hyperparameters_;
  std::unique_ptr<Architecture> architecture_;
  Fingerprint fingerprint_;
  std::string weight_type_;
  uint64_t file_bytes_ = 0;
  bool adds_bos_ = false;
  MathMode math_ = MathMode::fast;
};

}  // namespace tessera::model
