// Operations on single rows of activations.
#include "backends/cpu/isa/tables.hpp"
#include "backends/cpu/isa/vector.hpp"

namespace tessera::cpu::TESSERA_ISA {
namespace {

// Adding 1.5 * 2^23 rounds to the nearest integer, ties to even; its low bits are the integer.
constexpr float kMagic = 12582912.0f;
constexpr int32_t kMagicBits = 0x4b400000;

// A block whose largest magnitude is less is quantised to zeros: a code / magnitude stays finite.
constexpr float kSmallest = 0x1p-100f;

// Of a block of kBlock values. As integers, magnitudes have the same order, and NaN is the largest.
TESSERA_INLINE float largest_magnitude(const float* x) {
  IntVec largest = {};
  for (uint32_t i = 0; i < kBlock; i += kVec) {
    const IntVec bits = (IntVec)load(x + i) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest_of(largest));
}

}  // namespace

// x is padded with zeros to whole lanes, which add nothing to the sum of squares.
void rms_norm(const float* x, const float* norm, float epsilon, uint32_t width, float* out) {
  Lanes squares = {};
  for (uint32_t i = 0; i < width; i += kLanes) {
    for (uint32_t part = 0; part < kParts; ++part) {
      const Vec v = load(x + i + part * kVec);
      squares.part[part] += v * v;
    }
  }
  const float mean = sum(squares) / static_cast<float>(width);
  const float inverse = 1.0f / __builtin_sqrtf(mean + epsilon);
  uint32_t i = 0;
  for (; i < width; ++i) out[i] = x[i] * inverse * norm[i];
  for (; i % kLanes != 0; ++i) out[i] = 0.0f;
}

void quantise_int8(const float* x, const QuantisedRows& rows, uint32_t r) {
  typedef int8_t Narrow __attribute__((vector_size(kVec)));
  for (uint32_t b = 0; b < rows.blocks; ++b, x += kBlock) {
    Int8Block& to = *reinterpret_cast<Int8Block*>(rows.at(r, b));
    const float magnitude = largest_magnitude(x);
    const bool usable = magnitude >= kSmallest && magnitude < __builtin_inff();
    const Vec inverse = splat(usable ? 127.0f / magnitude : 0.0f);
    const int32_t keep = usable ? -1 : 0;
    float sums[2];
    for (uint32_t half = 0; half < 2; ++half) {
      Lanes rounded;
      for (uint32_t part = 0; part < kParts; ++part) {
        const uint32_t i = half * kLanes + part * kVec;
        const Vec shifted = load(x + i) * inverse + splat(kMagic);
        const IntVec whole = ((IntVec)shifted - kMagicBits) & keep;
        const Narrow n = __builtin_convertvector(whole, Narrow);
        __builtin_memcpy(to.q + i, &n, sizeof n);
        rounded.part[part] = __builtin_convertvector(whole, Vec);
      }
      sums[half] = cpu::TESSERA_ISA::sum(rounded);  // of small integers: exact
      to.from32[half] = 32 * (kMagicBits - __builtin_bit_cast(int32_t, sums[half] + kMagic));
    }
    to.scale = usable ? magnitude / 127.0f : magnitude * 0.0f;
    to.sum = to.scale * (sums[0] + sums[1]);
    const int32_t both = to.from32[0] + to.from32[1];
    to.from8 = both / 4;
    to.from128 = both * 4;
  }
}

void quantise_int16(const float* x, const QuantisedRows& rows, uint32_t r) {
  constexpr float kMaxCode = 4095.0f;
  typedef int16_t Narrow __attribute__((vector_size(2 * kVec)));
  for (uint32_t b = 0; b < rows.blocks; ++b, x += kBlock) {
    Int16Block& to = *reinterpret_cast<Int16Block*>(rows.at(r, b));
    const float magnitude = largest_magnitude(x);
    const bool usable = magnitude >= kSmallest && magnitude < __builtin_inff();
    const Vec inverse = splat(usable ? kMaxCode / magnitude : 0.0f);
    const int32_t keep = usable ? -1 : 0;
    for (uint32_t i = 0; i < kBlock; i += kVec) {
      const Vec shifted = load(x + i) * inverse + splat(kMagic);
      const Narrow n = __builtin_convertvector(((IntVec)shifted - kMagicBits) & keep, Narrow);
      __builtin_memcpy(to.q + i, &n, sizeof n);
    }
    to.scale = usable ? magnitude / kMaxCode : magnitude * 0.0f;
  }
}

void silu_multiply(const float* gate, const float* up, uint32_t count, float* out) {
  const Vec one = splat(1.0f);
  uint32_t i = 0;
  for (; i + kVec <= count; i += kVec) {
    const Vec g = load(gate + i);
    store(out + i, g / (one + exp(-g)) * load(up + i));
  }
  for (; i < count; ++i) {
    const Vec g = splat(gate[i]);
    out[i] = (g / (one + exp(-g)) * splat(up[i]))[0];
  }
}

void rotate(float* head, const float* c, const float* s, uint32_t pairs, bool halves) {
  if (halves) {
    for (uint32_t i = 0; i < pairs; ++i) {
      const float a = head[i], b = head[pairs + i];
      head[i] = a * c[i] - b * s[i];
      head[pairs + i] = a * s[i] + b * c[i];
    }
  } else {
    for (uint32_t i = 0; i < pairs; ++i) {
      const float a = head[2 * i], b = head[2 * i + 1];
      head[2 * i] = a * c[i] - b * s[i];
      head[2 * i + 1] = a * s[i] + b * c[i];
    }
  }
}

float largest(const float* x, uint32_t count) {
  Vec most = splat(-__builtin_inff());
  uint32_t i = 0;
  for (; i + kVec <= count; i += kVec) most = max(load(x + i), most);  // NaN > most is false
  float out = largest_of(most);
  for (; i < count; ++i) out = x[i] > out ? x[i] : out;
  return out;
}

double sum_exp(const float* x, uint32_t count, float max, float scale, float* out) {
  const Vec shift = splat(max), factor = splat(scale);
  double total = 0;
  uint32_t i = 0;
  while (i + kVec <= count) {
    // A run of 1024 values in single precision, the runs in double precision.
    Vec run = {};
    const uint32_t end = count - i < 1024 ? count : i + 1024;
    for (; i + kVec <= end; i += kVec) {
      const Vec e = exp((load(x + i) - shift) * factor);
      if (out) store(out + i, e);
      run += e;
    }
    for (uint32_t lane = 0; lane < kVec; ++lane) total += static_cast<double>(run[lane]);
  }
  for (; i < count; ++i) {
    const float e = exp(splat((x[i] - max) * scale))[0];
    if (out) out[i] = e;
    total += static_cast<double>(e);
  }
  return total;
}

}  // namespace tessera::cpu::TESSERA_ISA
