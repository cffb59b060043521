// The table of one instruction set.
#include "backends/cpu/isa/tables.hpp"

#define TESSERA_TEXT2(x) #x
#define TESSERA_TEXT(x) TESSERA_TEXT2(x)

namespace tessera::cpu::TESSERA_ISA {

extern const Kernels& table();

const Kernels& table() {
  static const Kernels kernels = [] {
    Kernels k = {};
    k.name = TESSERA_TEXT(TESSERA_ISA);
    for (uint32_t i = 0; i < 11; ++i) k.dequantise[i] = kDequantise[i];
    k.multiply = multiply;
    k.quantise_int8 = quantise_int8;
    k.quantise_int16 = quantise_int16;
    k.rms_norm = rms_norm;
    k.silu_multiply = silu_multiply;
    k.rotate = rotate;
    k.largest = largest;
    k.sum_exp = sum_exp;
    for (uint32_t i = 0; i < 3; ++i) {
      k.store_key[i] = kStoreKey[i];
      k.store_value[i] = kStoreValue[i];
      k.load_keys[i] = kLoadKeys[i];
      k.score[i] = kScore[i];
      k.weigh[i] = kWeigh[i];
    }
    k.add_weights = add_weights;
    k.softmax_tile = softmax_tile;
    k.merge = merge;
    return k;
  }();
  return kernels;
}

}  // namespace tessera::cpu::TESSERA_ISA
