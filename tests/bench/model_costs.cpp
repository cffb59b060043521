// model_costs FILE: one JSON object with what a token of a llama model costs.
//   linear_macs     multiplications of the layers' matrices; without the head, which a prompt
//                   needs only at its last token
//   weight_bytes    of the file that a generated token has to read: all matrices, the head too
//   kv_values       keys and values that each earlier token adds to what attention reads
#include <cstdio>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/gguf/reader.hpp"

namespace {

using tessera::gguf::Reader;
using tessera::gguf::Tensor;

nlohmann::json costs(const Reader& file) {
  const std::string prefix = std::string(file.get_string("general.architecture")) + ".";
  const uint64_t layers = file.get_uint(prefix + "block_count");
  const uint64_t heads = file.get_uint(prefix + "attention.head_count");
  const uint64_t kv_heads = file.get_uint(prefix + "attention.head_count_kv", heads);
  const uint64_t head = file.get_uint(prefix + "embedding_length") / heads;
  const uint64_t key = file.get_uint(prefix + "attention.key_length", head);
  const uint64_t value = file.get_uint(prefix + "attention.value_length", head);

  uint64_t macs = 0, bytes = 0;
  std::map<std::string, uint64_t> types;  // bytes of each
  const bool tied = file.find_tensor("output.weight") == nullptr;
  for (const Tensor& tensor : file.tensors()) {
    if (tensor.shape.size() != 2) continue;
    if (tensor.name.starts_with("blk.")) {
      macs += tensor.shape[0] * tensor.shape[1];
    } else if (tensor.name == "token_embd.weight" && !tied) {
      continue;  // one row a token
    }
    bytes += tensor.bytes;
    types[tessera::dtype_info(tensor.type).name] += tensor.bytes;
  }
  return {{"layers", layers},
          {"linear_macs", macs},
          {"weight_bytes", bytes},
          {"weight_bytes_by_type", types},
          {"kv_values", layers * kv_heads * (key + value)},
          {"context", file.get_uint(prefix + "context_length")}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: model_costs FILE\n", stderr);
    return 2;
  }
  try {
    std::puts(costs(Reader(argv[1])).dump().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_costs: %s\n", error.what());
    return 1;
  }
}
