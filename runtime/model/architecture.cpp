#include "runtime/model/architecture.hpp"

namespace tessera::model {
namespace {

constexpr ArchitectureEntry kArchitectures[] = {
    {"llama", load_llama},
};

}  // namespace

const ArchitectureEntry& find_architecture(std::string_view name, const std::string& path) {
  std::string known;
  for (const ArchitectureEntry& entry : kArchitectures) {
    if (entry.name == name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  fail(Status::unsupported,
       path + ": key general.architecture is \"" + std::string(name) + "\"; supported: " + known);
}

}  // namespace tessera::model
