// Cosines and sines of rotary position embedding, in float64 whatever the position.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "backends/graph.hpp"

namespace tessera::cpu {

// cos and sin of position * frequency for one Rope. A position splits into 256 * coarse + fine;
// both parts come from tables in double precision and are joined by the addition theorem, which
// costs a few roundings of 1e-16 and spares two calls of the C library a pair.
class RopeTable {
 public:
  explicit RopeTable(const Rope& rope);

  uint32_t pairs() const { return static_cast<uint32_t>(frequencies_.size()); }
  // out[0 .. pairs) = cos * magnitude, out[pairs .. 2 * pairs) = sin * magnitude.
  void fill(int64_t position, float* out);

 private:
  struct Angle {
    double cosine, sine;
  };
  const Angle* coarse(int64_t index);

  std::vector<double> frequencies_;
  double magnitude_;
  std::vector<Angle> fine_;                                 // [256][pairs]
  std::unordered_map<int64_t, std::vector<Angle>> coarse_;  // [pairs] of the indices seen
};

// The rotations that one step needs, each once.
class RotationSet {
 public:
  void clear(uint32_t pairs);
  // Index of the rotation by `position`, computed if it is new.
  uint32_t add(RopeTable& table, int64_t position);
  // cos[pairs], then sin[pairs].
  const float* operator[](uint32_t index) const { return values_.data() + size_t{index} * stride_; }

 private:
  size_t stride_ = 0;
  std::unordered_map<int64_t, uint32_t> index_of_;
  std::vector<float> values_;
};

}  // namespace tessera::cpu
