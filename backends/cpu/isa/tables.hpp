// What each source in isa/ gives to its instruction set's table (isa/kernels.cpp).
#pragma once

#include "backends/cpu/kernels.hpp"

namespace tessera::cpu::TESSERA_ISA {

void multiply(const MultiplyArgs& args);
void quantise(const float* x, uint32_t width, int8_t* q, float* scale, float* sum, int32_t* count);

void rms_norm(const float* x, const float* norm, float epsilon, uint32_t width, float* out);
void silu_multiply(const float* gate, const float* up, uint32_t count, float* out);
void rotate(float* head, const float* c, const float* s, uint32_t pairs, bool halves);
double sum_exp(const float* x, uint32_t count, float max);

void transpose(const float* tile, size_t tile_stride, uint32_t slots, uint32_t dims, float* out);
void weigh(const WeighArgs& args);
float softmax_tile(float* scores, uint32_t slots, uint64_t visible, SoftmaxState& state);
void merge(float* sum, const float* part, float scale, uint32_t count);

// In the order of DType and of KvType.
extern const Kernels::Dequantise kDequantise[11];
extern const Kernels::StoreHead kStoreHead[3];
extern const Kernels::LoadHead kLoadHead[3];

}  // namespace tessera::cpu::TESSERA_ISA
