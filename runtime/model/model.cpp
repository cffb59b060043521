#include "runtime/model/model.hpp"

#include <array>

#include "backends/registry.hpp"
#include "runtime/gguf/reader.hpp"
#include "runtime/text/from_gguf.hpp"

namespace tessera::model {
namespace {

std::string main_weight_type(const gguf::Reader& reader) {
  std::array<uint64_t, kDTypeCount> elements{};
  for (const gguf::Tensor& tensor : reader.tensors()) {
    uint64_t count = 1;
    for (uint64_t n : tensor.shape) count *= n;
    elements[static_cast<size_t>(tensor.type)] += count;
  }
  size_t best = 0;
  for (size_t t = 1; t < kDTypeCount; ++t) {
    if (elements[t] > elements[best]) best = t;
  }
  return kDTypeInfo[best].name;
}

}  // namespace

Model::Model(const std::string& path, const LoadOptions& options) : math_(options.math) {
  const gguf::Reader reader(path);
  const ArchitectureEntry& entry =
      find_architecture(reader.get_string("general.architecture"), path);
  text::VocabularyData vocabulary = text::vocabulary_from_gguf(reader);
  adds_bos_ = vocabulary.add_bos;
  const std::string jinja = vocabulary.chat_template;
  try {
    tokenizer_ = std::make_unique<text::Tokenizer>(std::move(vocabulary));
  } catch (const Error& error) {
    fail(error.status(), path + ": " + error.what());
  }
  chat_template_ =
      std::make_unique<text::ChatTemplate>(text::ChatTemplate::recognise(jinja, *tokenizer_));
  hyperparameters_ = read_hyperparameters(reader, static_cast<uint32_t>(tokenizer_->size()));
  backend_ = open_device(options.device, BackendOptions{options.math});
  math_ = options.math;
  WeightSource source(reader, *backend_, options.progress);
  architecture_ = entry.load(hyperparameters_, source);
  source.finish();
  fingerprint_ = source.fingerprint();
  weight_type_ = main_weight_type(reader);
  file_bytes_ = reader.file_bytes();
}

}  // namespace tessera::model
