#include "backends/cpu/isa.hpp"

#include <string>

#include "backends/error.hpp"

namespace tessera::cpu {

const Kernels& best_kernels() {
  const std::span<const Isa> all = isas();
  for (size_t i = all.size(); i-- > 1;) {
    if (all[i].supported()) return all[i].kernels();
  }
  return all[0].kernels();
}

const Kernels& kernels_named(std::string_view name) {
  std::string known;
  for (const Isa& isa : isas()) {
    if (name == isa.name) {
      if (!isa.supported()) {
        fail(Status::unsupported, "this machine cannot run the " + std::string(name) + " kernels");
      }
      return isa.kernels();
    }
    known += (known.empty() ? "" : ", ") + std::string(isa.name);
  }
  fail(Status::not_found, "no kernels named '" + std::string(name) + "'; there are " + known);
}

}  // namespace tessera::cpu
