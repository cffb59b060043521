#include "tests/fuzz/target.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "backends/error.hpp"
#include "runtime/gguf/reader.hpp"
#include "runtime/model/model.hpp"

namespace tessera::test {
namespace {

// Asks for every key in every form. A wrong type must be an Error and nothing else.
void read_keys(const gguf::Reader& reader) {
  for (const auto& entry : reader.values()) {
    const std::string& key = entry.first;
    auto ask = [](const auto& get) {
      try {
        get();
      } catch (const Error&) {
      }
    };
    ask([&] { reader.get_uint(key); });
    ask([&] { reader.get_float(key); });
    ask([&] { reader.get_bool(key); });
    ask([&] { reader.get_string(key); });
    ask([&] { reader.get_strings(key); });
    ask([&] { reader.get_floats(key); });
    ask([&] { reader.get_ints(key); });
  }
}

void read_tensors(const gguf::Reader& reader) {
  std::vector<char> piece(size_t{1} << 16);
  for (const gguf::Tensor& tensor : reader.tensors()) {
    if (reader.find_tensor(tensor.name) != &tensor) {
      throw std::logic_error("find_tensor does not find " + tensor.name);
    }
    for (uint64_t at = 0; at < tensor.bytes; at += piece.size()) {
      reader.read(tensor, at, piece.data(), std::min<uint64_t>(piece.size(), tensor.bytes - at));
    }
  }
}

}  // namespace

bool try_load(const std::string& path) {
  try {
    const gguf::Reader reader(path);
    read_keys(reader);
    read_tensors(reader);
    // All that an application's load does: tokenizer, template, shapes, weights on the CPU.
    model::LoadOptions options;
    options.device = "cpu";
    const model::Model model(path, options);
    return true;
  } catch (const Error& error) {
    if (std::string(error.what()).find(path) == std::string::npos) {
      throw std::logic_error(std::string("an error that does not name the file: ") + error.what());
    }
    return false;
  }
}

}  // namespace tessera::test
