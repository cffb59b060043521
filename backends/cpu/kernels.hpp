// The kernels that are worth compiling for several instruction sets: one table of functions per
// ISA. The sources in isa/ are compiled once for each; everything else is built for the baseline.
//
// Every function gives the same bits for a row whatever else is computed in the same call: each
// output is reduced in one fixed order (see `multiply`, `score`, `weigh`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/packing.hpp"

namespace tessera::cpu {

// Rows of activations and dequantised weights are padded with zeros to a multiple of kLanes.
inline constexpr uint32_t kLanes = 16;
// Weight rows that `multiply` takes at a time; tiles of weights are padded to a multiple of it.
inline constexpr uint32_t kTileOutputs = 4;
// Slots of an attention tile (numeric contract 2).
inline constexpr uint32_t kTileSlots = 64;

// Running softmax of one query over the tiles seen so far.
struct SoftmaxState {
  float max;  // -infinity before the first visible slot
  float sum;  // of exp(score - max)
};

// out[r][i] = (add ? add[r][i] : 0) + <x[r], w[i]> for r < rows, i < outputs.
struct MultiplyArgs {
  const float* x;  // [rows][x_stride]
  size_t x_stride;
  uint32_t rows;
  const float* w;    // [outputs, padded to kTileOutputs][depth]
  uint32_t outputs;  // any
  uint32_t depth;    // K, a multiple of kLanes; the padding of x or w is zero
  const float* add;  // [rows][add_stride] or null; may be `out`
  size_t add_stride;
  float* out;  // [rows][out_stride]
  size_t out_stride;
};

// Where the slots of one attention tile lie: groups of 16 consecutive slots, each within the plane
// of one page (pages.hpp).
inline constexpr uint32_t kGroupSlots = 16;
inline constexpr uint32_t kTileGroups = kTileSlots / kGroupSlots;
struct KvTile {
  const uint8_t* planes[kTileGroups];
  uint32_t first[kTileGroups];  // slot of the plane where the group begins
  uint32_t plane_slots;         // slots a plane; a multiple of 16
  uint32_t groups;              // that are there; 0: none
};

// scores[i][s] = sum_d q[i][d] * key[s][d], d ascending, one accumulator a score.
struct ScoreArgs {
  const float* q;  // [queries][q_stride]
  size_t q_stride;
  uint32_t queries;
  uint32_t head_dim;
  KvTile keys;
  float* scores;  // [queries][kTileSlots]
  KvTile next;    // what is read after this and fetched meanwhile
};

// sum[i][d] = sum[i][d] * rescale[i] + sum_s weights[i][s] * value[s][d], s ascending over the
// slots of `wanted`, one accumulator an element.
struct WeighArgs {
  const float* weights;  // [queries][kTileSlots]
  const float* rescale;
  uint32_t queries;
  uint32_t head_dim;
  KvTile values;
  uint64_t wanted;  // slots that some query sees
  float* sum;       // [queries][sum_stride], room for head_dim padded to kLanes
  size_t sum_stride;
  KvTile next;  // what is read after this and fetched meanwhile
};

// Activations as the packed kernels take them: codes that share a scale, element = q * scale.
struct Int8Block {
  int8_t q[kBlock];
  float scale;
  float sum;  // scale * (sum of q)
  // What a sum of products with unsigned codes begins with: minus (sum of q) * zero point.
  int32_t from8;      // of codes around 8
  int32_t from32[2];  // around 32: of elements 0 .. 15 and 16 .. 31
  int32_t from128;
};
struct Int16Block {
  int16_t q[kBlock];
  float scale;
};

// Rows of blocks of one RowForm, in panels of kPanelRows rows, the last one with what remains:
// [panel][block of K][row of the panel]. So what a tile reads lies in one run.
inline constexpr uint32_t kPanelRows = 8;
struct QuantisedRows {
  uint8_t* data = nullptr;
  uint32_t rows = 0;
  uint32_t blocks = 0;  // a row
  uint32_t block_bytes = 0;

  size_t bytes() const { return size_t{rows} * blocks * block_bytes; }
  // Bytes from a block of row r to the next one of K.
  size_t stride(uint32_t r) const {
    const uint32_t left = rows - r / kPanelRows * kPanelRows;
    return size_t{left < kPanelRows ? left : kPanelRows} * block_bytes;
  }
  uint8_t* at(uint32_t r, uint32_t block) const {
    const size_t panel = size_t{r / kPanelRows * kPanelRows} * blocks * block_bytes;
    return data + panel + block * stride(r) + size_t{r % kPanelRows} * block_bytes;
  }
  // The rows from a multiple of kPanelRows on.
  QuantisedRows from(uint32_t first) const {
    return {at(first, 0), rows - first, blocks, block_bytes};
  }
};

// out[r][i] = (add ? add[r][i] : 0) + <x[r], output i of the group>.
struct PackedArgs {
  const uint8_t* group;  // packing.hpp
  uint32_t outputs;      // written; at most 16
  QuantisedRows x;       // of the packing's RowForm
  uint32_t rows;         // the first ones of x
  const float* add;      // [rows][add_stride] or null; may be `out`
  size_t add_stride;
  float* out;  // [rows][out_stride]
  size_t out_stride;
};

// Products of packed weights, indexed by Packing. An output is summed block by block in the order
// of K, within a block exactly; the same bits in every instruction set that fuses multiply and add.
struct PackedKernels {
  void (*multiply[kPackings])(const PackedArgs& args);
};

struct Kernels {
  const char* name;
  PackedKernels packed;

  // Quantises row r of `to` from x: scale is the largest magnitude / 127, q rounds to nearest even.
  // A block with an infinity or a NaN has scale NaN.
  void (*quantise_int8)(const float* x, const QuantisedRows& to, uint32_t r);
  // The same with the largest magnitude / 4095, so that 32 products with 14-bit weights stay below
  // 2^31.
  void (*quantise_int16)(const float* x, const QuantisedRows& to, uint32_t r);

  // Exact values of `elements` weights (whole blocks) of one type; indexed by DType.
  using Dequantise = void (*)(const uint8_t* blocks, uint32_t elements, float* out);
  Dequantise dequantise[11];

  // Sixteen lane partials over K in order, then the tree (i, i + 8), (i, i + 4), (i, i + 2),
  // (i, i + 1).
  void (*multiply)(const MultiplyArgs& args);

  // out = x / sqrt(mean(x^2) + epsilon) * norm over `width` values; zeroes out's padding.
  void (*rms_norm)(const float* x, const float* norm, float epsilon, uint32_t width, float* out);
  // out[i] = silu(gate[i]) * up[i]. Any count.
  void (*silu_multiply)(const float* gate, const float* up, uint32_t count, float* out);
  // Rotates pair i of a head by the angle with cosine c[i] and sine s[i]. Pairs are (2i, 2i + 1),
  // or with `halves` (i, i + pairs).
  void (*rotate)(float* head, const float* c, const float* s, uint32_t pairs, bool halves);
  // The largest of x; a NaN counts as -infinity.
  float (*largest)(const float* x, uint32_t count);
  // Sum of exp((x[i] - max) * scale); writes them to `out` where it is not null.
  double (*sum_exp)(const float* x, uint32_t count, float max, float scale, float* out);

  // Writes one head's key or value to a slot of its plane of `slots` slots; indexed by KvType.
  // Rounds to nearest even and saturates at the largest finite value.
  using StoreHead = void (*)(const float* head, uint32_t head_dim, uint8_t* plane, uint32_t slots,
                             uint32_t slot);
  StoreHead store_key[3];
  StoreHead store_value[3];
  // out[d][s] = key s: [head_dim][kTileSlots].
  void (*load_keys[3])(const KvTile& keys, uint32_t head_dim, float* out);

  void (*score[3])(const ScoreArgs& args);
  void (*weigh[3])(const WeighArgs& args);
  // sums[i] += exp(scores[i] - log_sum) in kMassUnits for the slots i < `slots`, a multiple of
  // kLanes, that `visible` names; to the nearest integer. No sum may pass 2^31.
  void (*add_weights)(const float* scores, uint32_t slots, uint64_t visible, float log_sum,
                      uint32_t* sums);
  // Turns the scores of one tile into weights relative to the new maximum, 0 for slots whose bit in
  // `visible` (not 0) is clear, and returns what the sum so far must be multiplied by. `slots`: a
  // multiple of kLanes, at most kTileSlots; no visible slot lies behind it.
  float (*softmax_tile)(float* scores, uint32_t slots, uint64_t visible, SoftmaxState& state);
  // Takes another part's state and sum [count] into a total; `count`: a multiple of kLanes.
  void (*merge)(SoftmaxState& total, float* total_sum, const SoftmaxState& part, const float* sum,
                uint32_t count);
};

}  // namespace tessera::cpu
