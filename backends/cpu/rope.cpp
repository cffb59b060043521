#include "backends/cpu/rope.hpp"

#include <cmath>
#include <utility>

namespace tessera::cpu {
namespace {

constexpr int64_t kFine = 256;
constexpr size_t kMaxCoarse = 4096;  // entries kept: a million positions

}  // namespace

RopeTable::RopeTable(const Rope& rope)
    : frequencies_(rope.frequencies), magnitude_(rope.magnitude) {
  fine_.reserve(kFine * frequencies_.size());
  for (int64_t position = 0; position < kFine; ++position) {
    for (const double frequency : frequencies_) {
      const double angle = static_cast<double>(position) * frequency;
      fine_.push_back({std::cos(angle), std::sin(angle)});
    }
  }
}

const RopeTable::Angle* RopeTable::coarse(int64_t index) {
  const auto it = coarse_.find(index);
  if (it != coarse_.end()) return it->second.data();
  if (coarse_.size() >= kMaxCoarse) coarse_.clear();
  std::vector<Angle> angles;  // whole before it is kept: memory may run out
  angles.reserve(frequencies_.size());
  for (const double frequency : frequencies_) {
    const double angle = static_cast<double>(index * kFine) * frequency;
    angles.push_back({std::cos(angle), std::sin(angle)});
  }
  return coarse_.emplace(index, std::move(angles)).first->second.data();
}

void RopeTable::fill(int64_t position, float* out) {
  const int64_t fine_index = position & (kFine - 1);
  const Angle* a = coarse((position - fine_index) / kFine);
  const Angle* b = fine_.data() + static_cast<size_t>(fine_index) * frequencies_.size();
  const size_t pairs = frequencies_.size();
  for (size_t i = 0; i < pairs; ++i) {
    const double c = a[i].cosine * b[i].cosine - a[i].sine * b[i].sine;
    const double s = a[i].sine * b[i].cosine + a[i].cosine * b[i].sine;
    out[i] = static_cast<float>(c * magnitude_);
    out[pairs + i] = static_cast<float>(s * magnitude_);
  }
}

void RotationSet::clear(uint32_t pairs) {
  stride_ = 2 * size_t{pairs};
  index_of_.clear();
  values_.clear();
}

uint32_t RotationSet::add(RopeTable& table, int64_t position) {
  const auto [it, is_new] =
      index_of_.try_emplace(position, static_cast<uint32_t>(index_of_.size()));
  if (is_new) {
    values_.resize(values_.size() + stride_);
    table.fill(position, values_.data() + values_.size() - stride_);
  }
  return it->second;
}

}  // namespace tessera::cpu
