// What a model family adds: the names and shapes of its tensors, and its graph. One family is one
// file of this folder and one row in architecture.cpp.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "backends/backend.hpp"
#include "runtime/model/hyperparameters.hpp"
#include "runtime/model/rope_scaling.hpp"

namespace tessera::model {

class WeightSource;

struct GraphOptions {
  KeyForm key_form = KeyForm::local;
};

// A loaded family member: owns the weights. Immutable after load; any thread.
class Architecture {
 public:
  virtual ~Architecture() = default;
  virtual Graph build_graph(const GraphOptions& options) const = 0;
  virtual std::vector<LayerGroup> layer_groups() const = 0;
  virtual uint64_t parameters() const = 0;
  virtual uint64_t device_bytes() const = 0;
  // Why chunks cannot be shared; empty when they can.
  virtual std::string sharing_refusal() const { return {}; }
};

struct ArchitectureEntry {
  std::string_view name;  // of general.architecture
  std::unique_ptr<Architecture> (*load)(const Hyperparameters& h, WeightSource& source);
};

// Throws unsupported, naming what is known, when there is no such family.
const ArchitectureEntry& find_architecture(std::string_view name, const std::string& path);

std::unique_ptr<Architecture> load_llama(const Hyperparameters& h, WeightSource& source);

}  // namespace tessera::model
