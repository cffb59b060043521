// Memory of a graph's activation matrices. Values whose lives do not overlap share a buffer.
#pragma once

#include <vector>

#include "backends/cpu/host_memory.hpp"
#include "backends/graph.hpp"

namespace tessera::cpu {

// One fp32 activation matrix; rows are padded with zeros to a multiple of kLanes.
struct Matrix {
  float* data = nullptr;
  size_t stride = 0;
  uint32_t width = 0;

  float* row(uint32_t r) const { return data + r * stride; }
};

class Values {
 public:
  // Throws invalid_argument where an op names no value or reads one that nothing wrote.
  Values(const Graph& graph, uint32_t max_rows);

  const Matrix& operator[](Value value) const { return matrices_[value]; }

 private:
  std::vector<Matrix> matrices_;
  HostMemory memory_;
};

}  // namespace tessera::cpu
