#include "tests/unit/model/edited_model.hpp"

#include "runtime/gguf/reader.hpp"
#include "runtime/gguf/writer.hpp"

namespace tessera::test {

EditedModel::EditedModel(const TinyModel& model) {
  write_tiny_model(path(), model);
}

std::string EditedModel::with(const Edit& edit) {
  const std::string copy = folder_.file("edited-" + std::to_string(++copies_) + ".gguf");
  const gguf::Reader original(path());
  gguf::Writer writer(copy);
  for (const auto& [key, value] : original.values()) {
    if (!edit.drop_keys.contains(key)) writer.set(key, value);
  }
  for (const auto& [key, value] : edit.set) writer.set(key, value);
  for (const gguf::Tensor& tensor : original.tensors()) {
    if (edit.drop_tensors.contains(tensor.name) || edit.put.contains(tensor.name)) continue;
    writer.add_tensor(tensor.name, tensor.type, tensor.shape,
                      [&](uint64_t offset, void* out, uint64_t bytes) {
                        original.read(tensor, offset, out, bytes);
                      });
  }
  for (const auto& [name, tensor] : edit.put) {
    writer.add_tensor(name, DType::f32, tensor.shape, tensor.values.data());
  }
  writer.finish();
  return copy;
}

}  // namespace tessera::test
