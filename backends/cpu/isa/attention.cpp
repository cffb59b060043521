// The parts of span attention: scores and weighted values of one tile of 64 slots, read straight
// from the pages.
#include "backends/cpu/isa/kv_load.hpp"
#include "backends/cpu/isa/tables.hpp"
#include "backends/cpu/isa/vector.hpp"
#include "backends/step.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

// Blocks that the registers hold: kQueries x kWidth sums of 16 lanes.
constexpr uint32_t kQueries = kVec == 16 ? 6 : kVec == 8 ? 4 : 2;
constexpr uint32_t kWidth = kVec == 16 ? 4 : 1;

TESSERA_INLINE Lanes scaled(const Lanes& a, const Lanes& scale) {
  Lanes out;
  for (uint32_t p = 0; p < kParts; ++p) out.part[p] = a.part[p] * scale.part[p];
  return out;
}

TESSERA_INLINE Lanes splat_lanes(float x) {
  Lanes out;
  for (uint32_t p = 0; p < kParts; ++p) out.part[p] = splat(x);
  return out;
}

// Fetches part `part` of head_dim parts of a tile. The codes of 16 slots of a plane are neighbours,
// of keys too, or else the whole plane is part of the tile.
template <class T>
TESSERA_INLINE void fetch(const KvTile& tile, uint32_t head_dim, uint32_t part) {
  constexpr uint32_t kLine = 64, kPart = kGroupSlots * T::kBytes;
  if (part * kPart % kLine != 0) return;
  for (uint32_t g = 0; g < tile.groups; ++g) {
    __builtin_prefetch(tile.planes[g] + size_t{tile.first[g]} * head_dim * T::kBytes +
                       size_t{part} * kPart);
  }
}

// Scores of Q queries with G groups of slots.
template <class T, uint32_t Q, uint32_t G>
TESSERA_INLINE void score_block(const ScoreArgs& args, uint32_t query, uint32_t group) {
  const KvTile& tile = args.keys;
  const float* q = args.q + query * args.q_stride;
  const uint8_t* row[G];
  const size_t stride = size_t{tile.plane_slots} * T::kBytes;
  for (uint32_t g = 0; g < G; ++g) {
    row[g] = tile.planes[group + g] + size_t{tile.first[group + g]} * T::kBytes;
  }
  Lanes acc[Q][G] = {};
  const uint32_t block = T::kScaled ? kScaleBlock : args.head_dim;
  for (uint32_t d = 0; d < args.head_dim;) {
    Lanes scale[G];
    if constexpr (T::kScaled) {
      for (uint32_t g = 0; g < G; ++g) {
        const size_t at = size_t{d / kScaleBlock} * tile.plane_slots + tile.first[group + g];
        scale[g] = halves_to_lanes(tile.planes[group + g] +
                                   size_t{args.head_dim} * tile.plane_slots + at * 2);
      }
    }
    for (const uint32_t end = d + block; d < end; ++d) {
      if (query + group == 0) fetch<T>(args.next, args.head_dim, d);
      Lanes k[G];
#pragma GCC unroll 4
      for (uint32_t g = 0; g < G; ++g) {
        k[g] = T::load16(row[g] + d * stride);
        if constexpr (T::kScaled) k[g] = scaled(k[g], scale[g]);
      }
#pragma GCC unroll 8
      for (uint32_t i = 0; i < Q; ++i) {
        const Vec qd = splat(q[i * args.q_stride + d]);
#pragma GCC unroll 4
        for (uint32_t g = 0; g < G; ++g) {
#pragma GCC unroll 4
          for (uint32_t p = 0; p < kParts; ++p) acc[i][g].part[p] += qd * k[g].part[p];
        }
      }
    }
  }
  for (uint32_t i = 0; i < Q; ++i) {
    float* to = args.scores + size_t{query + i} * kTileSlots + group * kGroupSlots;
    for (uint32_t g = 0; g < G; ++g) {
      for (uint32_t p = 0; p < kParts; ++p) {
        cpu::TESSERA_ISA::store(to + g * kGroupSlots + p * kVec, acc[i][g].part[p]);
      }
    }
  }
}

template <class T, uint32_t Q>
TESSERA_INLINE void score_queries(const ScoreArgs& args, uint32_t query) {
  uint32_t group = 0;
  for (; group + kWidth <= args.keys.groups; group += kWidth) {
    score_block<T, Q, kWidth>(args, query, group);
  }
  for (; group < args.keys.groups; ++group) score_block<T, Q, 1>(args, query, group);
}

// Calls f<Q>(first query) over all queries, in as large blocks as there are.
template <class F>
TESSERA_INLINE void in_blocks(uint32_t queries, F&& f) {
  uint32_t i = 0;
  for (; i + kQueries <= queries; i += kQueries) f.template operator()<kQueries>(i);
  if constexpr (kQueries > 3) {
    for (; i + 3 <= queries; i += 3) f.template operator()<3>(i);
  }
  for (; i < queries; ++i) f.template operator()<1>(i);
}

template <class T>
void score(const ScoreArgs& args) {
  in_blocks(
      args.queries, [&]<uint32_t Q>(uint32_t i)
                        __attribute__((always_inline)) { score_queries<T, Q>(args, i); });
}

template <class T>
TESSERA_INLINE Lanes load_dims(const uint8_t* from, uint32_t count) {
  if (count >= kLanes) return T::load16(from);
  uint8_t whole[kLanes * T::kBytes] = {};
  for (uint32_t i = 0; i < count * T::kBytes; ++i) whole[i] = from[i];
  return T::load16(whole);
}

// Dimensions from `dim` on of Q queries, W times 16; `last`: dimensions of the last 16.
template <class T, uint32_t Q, uint32_t W>
TESSERA_INLINE void weigh_block(const WeighArgs& args, uint32_t query, uint32_t dim,
                                uint32_t last) {
  const KvTile& tile = args.values;
  float* sum = args.sum + query * args.sum_stride + dim;
  const float* weights = args.weights + size_t{query} * kTileSlots;
  Lanes acc[Q][W];
#pragma GCC unroll 8
  for (uint32_t i = 0; i < Q; ++i) {
    const Vec rescale = splat(args.rescale[query + i]);
#pragma GCC unroll 4
    for (uint32_t w = 0; w < W; ++w) {
#pragma GCC unroll 4
      for (uint32_t p = 0; p < kParts; ++p) {
        acc[i][w].part[p] = load(sum + i * args.sum_stride + w * kLanes + p * kVec) * rescale;
      }
    }
  }
  uint32_t part = query + dim == 0 ? 0 : args.head_dim;
  for (uint64_t left = args.wanted; left != 0; left &= left - 1) {
    if (part < args.head_dim) fetch<T>(args.next, args.head_dim, part++);
    const uint32_t s = static_cast<uint32_t>(__builtin_ctzll(left));
    const uint8_t* plane = tile.planes[s / kGroupSlots];
    const size_t slot = tile.first[s / kGroupSlots] + s % kGroupSlots;
    const uint8_t* value = plane + (slot * args.head_dim + dim) * T::kBytes;
    Lanes v[W];
#pragma GCC unroll 4
    for (uint32_t w = 0; w < W; ++w) {
      v[w] = load_dims<T>(value + w * kLanes * T::kBytes, w + 1 < W ? kLanes : last);
      if constexpr (T::kScaled) {
        const uint32_t blocks = args.head_dim / kScaleBlock;
        const size_t at = slot * blocks + (dim + w * kLanes) / kScaleBlock;
        const uint8_t* scales = plane + size_t{args.head_dim} * tile.plane_slots;
        v[w] = scaled(v[w], splat_lanes(read_half(scales + at * 2)));
      }
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < Q; ++i) {
      const Vec weight = splat(weights[i * kTileSlots + s]);
#pragma GCC unroll 4
      for (uint32_t w = 0; w < W; ++w) {
#pragma GCC unroll 4
        for (uint32_t p = 0; p < kParts; ++p) acc[i][w].part[p] += weight * v[w].part[p];
      }
    }
  }
  for (uint32_t i = 0; i < Q; ++i) {
    for (uint32_t w = 0; w < W; ++w) {
      for (uint32_t p = 0; p < kParts; ++p) {
        cpu::TESSERA_ISA::store(sum + i * args.sum_stride + w * kLanes + p * kVec,
                                acc[i][w].part[p]);
      }
    }
  }
}

template <class T>
void weigh(const WeighArgs& args) {
  in_blocks(
      args.queries, [&]<uint32_t Q>(uint32_t i) __attribute__((always_inline)) {
        uint32_t dim = 0;
        for (; dim + kWidth * kLanes <= args.head_dim; dim += kWidth * kLanes) {
          weigh_block<T, Q, kWidth>(args, i, dim, kLanes);
        }
        for (; dim < args.head_dim; dim += kLanes) {
          const uint32_t left = args.head_dim - dim;
          weigh_block<T, Q, 1>(args, i, dim, left < kLanes ? left : kLanes);
        }
      });
}

template <class T>
void load_keys(const KvTile& tile, uint32_t head_dim, float* out) {
  for (uint32_t g = 0; g < tile.groups; ++g) {
    for (uint32_t d = 0; d < head_dim; ++d) {
      const size_t at = size_t{d} * tile.plane_slots + tile.first[g];
      Lanes k = T::load16(tile.planes[g] + at * T::kBytes);
      if constexpr (T::kScaled) {
        const size_t scale = size_t{d / kScaleBlock} * tile.plane_slots + tile.first[g];
        k = scaled(
            k, halves_to_lanes(tile.planes[g] + size_t{head_dim} * tile.plane_slots + scale * 2));
      }
      float* to = out + size_t{d} * kTileSlots + g * kGroupSlots;
      for (uint32_t p = 0; p < kParts; ++p) cpu::TESSERA_ISA::store(to + p * kVec, k.part[p]);
    }
  }
}

}  // namespace

void (*const kLoadKeys[3])(const KvTile&, uint32_t, float*) = {
    load_keys<F32Elements>, load_keys<F16Elements>, load_keys<Q8Elements>};
void (*const kScore[3])(const ScoreArgs&) = {score<F32Elements>, score<F16Elements>,
                                             score<Q8Elements>};
void (*const kWeigh[3])(const WeighArgs&) = {weigh<F32Elements>, weigh<F16Elements>,
                                             weigh<Q8Elements>};

void add_weights(const float* scores, uint32_t slots, uint64_t visible, float log_sum,
                 uint32_t* sums) {
  // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits.
  const Vec shift = splat(log_sum), magic = splat(12582912.0f);
  const Vec units = splat(static_cast<float>(kMassUnits));
  float seen[kTileSlots];
  for (uint32_t i = 0; i < slots; ++i) {
    seen[i] = visible >> i & 1 ? scores[i] : -__builtin_inff();
  }
  for (uint32_t i = 0; i < slots; i += kVec) {
    const Vec weight = exp(load(seen + i) - shift) * units;
    const IntVec rounded = (IntVec)(weight + magic) - (IntVec)magic;
    for (uint32_t lane = 0; lane < kVec; ++lane) {
      sums[i + lane] += static_cast<uint32_t>(rounded[lane]);
    }
  }
}

float softmax_tile(float* scores, uint32_t slots, uint64_t visible, SoftmaxState& state) {
  const float kHidden = -__builtin_inff();
  if (visible != ~uint64_t{0}) {
    for (uint32_t i = 0; i < slots; ++i) scores[i] = visible >> i & 1 ? scores[i] : kHidden;
  }
  Vec largest = splat(state.max);
  for (uint32_t i = 0; i < slots; i += kVec) largest = max(load(scores + i), largest);
  const float new_max = largest_of(largest);

  const Vec shift = splat(new_max);
  Lanes total = {};
  for (uint32_t i = 0; i < slots; i += kLanes) {
    for (uint32_t part = 0; part < kParts; ++part) {
      float* s = scores + i + part * kVec;
      const Vec weight = exp(load(s) - shift);
      cpu::TESSERA_ISA::store(s, weight);
      total.part[part] += weight;
    }
  }
  const float scale = state.sum == 0 ? 0.0f : exp(splat(state.max - new_max))[0];
  state.sum = state.sum * scale + sum(total);
  state.max = new_max;
  return scale;
}

void merge(SoftmaxState& total, float* total_sum, const SoftmaxState& part, const float* sum,
           uint32_t count) {
  if (part.sum == 0) return;  // empty; NaN is not
  const float new_max = total.max > part.max ? total.max : part.max;
  const float a = total.sum == 0 ? 0.0f : exp(splat(total.max - new_max))[0];
  const float b = exp(splat(part.max - new_max))[0];
  for (uint32_t i = 0; i < count; i += kVec) {
    const Vec moved = load(sum + i) * splat(b);
    cpu::TESSERA_ISA::store(total_sum + i, load(total_sum + i) * splat(a) + moved);
  }
  total.sum = total.sum * a + part.sum * b;
  total.max = new_max;
}

}  // namespace tessera::cpu::TESSERA_ISA
