// fp32 to and from every tensor type, the plain way, for test models and as a reference for
// kernels. Not fast, and not the rounding of any other tool: a valid encoding whose values are
// close.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/dtype.hpp"

namespace tessera::test {

// IEEE binary16, round to nearest even; too large becomes infinity.
uint16_t float_to_half(float value);
float half_to_float(uint16_t half);

// Encodes `values` in the file layout of `type`. The count is a multiple of the type's block, else
// Error invalid_argument. Values must be finite, and within the range of a half for block types.
std::vector<uint8_t> quantise(DType type, const std::vector<float>& values);

// The exact values that `data` (row_bytes(type, elements) bytes) stands for.
std::vector<float> dequantise(DType type, const void* data, uint64_t elements);

}  // namespace tessera::test
