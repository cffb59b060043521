// F16 and BF16 weights as 14-bit codes (packing.hpp, s14).
#pragma once

#include <cstdint>

#include "backends/dtype.hpp"

namespace tessera::cpu {

// As pack_group and unpack_row, for F16 and BF16; `out` is zeroed.
void pack_halves(DType type, const uint8_t* rows, uint64_t row_stride, uint32_t row_count,
                 uint32_t columns, uint8_t* out);
void unpack_halves(const uint8_t* group, uint32_t output, uint32_t columns, float* out);

}  // namespace tessera::cpu
