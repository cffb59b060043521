#include "runtime/model/rope_scaling.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "backends/error.hpp"
#include "runtime/gguf/reader.hpp"
#include "runtime/model/hyperparameters.hpp"

namespace tessera::model {
namespace {

// The pair whose wave turns `rotations` times within the original context.
double pair_of(double rotations, double dims, double base, double context) {
  return dims * std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(base));
}

}  // namespace

RopeScaling read_rope_scaling(const gguf::Reader& reader, const Hyperparameters& h) {
  const std::string prefix = h.architecture + ".rope.";
  RopeScaling s;
  const std::string kind(reader.get_string(prefix + "scaling.type", "none"));
  if (kind == "none") {
    const double scale = read_positive(reader, prefix + "scale_linear", 1.0);
    if (scale != 1.0) {
      s.kind = RopeScalingKind::linear;
      s.factor = scale;
    }
    return s;
  }
  if (kind == "linear") {
    s.kind = RopeScalingKind::linear;
  } else if (kind == "yarn") {
    s.kind = RopeScalingKind::yarn;
    const std::string key = prefix + "scaling.original_context_length";
    s.original_context = static_cast<double>(reader.get_uint(key, h.context_length));
    if (s.original_context == 0) {
      fail(Status::corrupt_file, reader.path() + ": key " + key + " is 0, must be positive");
    }
    if (h.rope_base <= 1) {
      fail(Status::corrupt_file, reader.path() + ": key " + prefix + "freq_base is " +
                                     std::to_string(h.rope_base) +
                                     ", must be greater than 1 for YaRN");
    }
    s.attention_factor = read_positive(reader, prefix + "scaling.attn_factor", 1.0);
    s.beta_fast = read_positive(reader, prefix + "scaling.yarn_beta_fast", 32.0);
    s.beta_slow = read_positive(reader, prefix + "scaling.yarn_beta_slow", 1.0);
  } else {
    fail(Status::unsupported, reader.path() + ": key " + prefix + "scaling.type is \"" + kind +
                                  "\"; supported are none, linear, yarn and Llama-3's "
                                  "rope_freqs.weight");
  }
  s.factor = read_positive(reader, prefix + "scaling.factor", 1.0);
  return s;
}

Rope make_rope(uint32_t dims, double base, const RopeScaling& scaling, RopePairing pairing) {
  Rope rope;
  rope.pairing = pairing;
  rope.frequencies.resize(dims / 2);
  double low = 0;
  double high = 0;
  if (scaling.kind == RopeScalingKind::yarn) {
    low =
        std::max(0.0, std::floor(pair_of(scaling.beta_fast, dims, base, scaling.original_context)));
    high = std::min(dims - 1.0,
                    std::ceil(pair_of(scaling.beta_slow, dims, base, scaling.original_context)));
    rope.magnitude = scaling.attention_factor * (1.0 + 0.1 * std::log(scaling.factor));
  }
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    double f = std::pow(base, -2.0 * static_cast<double>(i) / dims);
    if (!scaling.divisors.empty()) f /= scaling.divisors[i];
    if (scaling.kind == RopeScalingKind::linear) f /= scaling.factor;
    if (scaling.kind == RopeScalingKind::yarn) {
      // 0 keeps the frequency, 1 divides it.
      const double ramp =
          std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
      f = f * (1 - ramp) + f / scaling.factor * ramp;
    }
    rope.frequencies[i] = f;
  }
  return rope;
}

}  // namespace tessera::model
