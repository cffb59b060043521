// What each source in isa/ gives to its instruction set's table (isa/kernels.cpp).
#pragma once

#include "backends/cpu/kernels.hpp"

namespace tessera::cpu::TESSERA_ISA {

void multiply(const MultiplyArgs& args);
void quantise_int8(const float* x, const QuantisedRows& to, uint32_t r);
void quantise_int16(const float* x, const QuantisedRows& to, uint32_t r);

void rms_norm(const float* x, const float* norm, float epsilon, uint32_t width, float* out);
void silu_multiply(const float* gate, const float* up, uint32_t count, float* out);
void rotate(float* head, const float* c, const float* s, uint32_t pairs, bool halves);
float largest(const float* x, uint32_t count);
double sum_exp(const float* x, uint32_t count, float max, float scale, float* out);

void add_weights(const float* scores, uint32_t slots, uint64_t visible, float log_sum,
                 uint32_t* sums);
float softmax_tile(float* scores, uint32_t slots, uint64_t visible, SoftmaxState& state);
void merge(SoftmaxState& total, float* total_sum, const SoftmaxState& part, const float* sum,
           uint32_t count);

// In the order of DType and of KvType.
extern const Kernels::Dequantise kDequantise[11];
extern const Kernels::StoreHead kStoreKey[3];
extern const Kernels::StoreHead kStoreValue[3];
extern void (*const kLoadKeys[3])(const KvTile&, uint32_t, float*);
extern void (*const kScore[3])(const ScoreArgs&);
extern void (*const kWeigh[3])(const WeighArgs&);

}  // namespace tessera::cpu::TESSERA_ISA
