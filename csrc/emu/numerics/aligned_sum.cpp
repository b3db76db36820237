#include <cmath>

#include "emu/exec/vectorize.h"
#include "emu/numerics/product_sum.h"
#include "emu/numerics/round.h"

namespace emu {
namespace {

using V8d = double __attribute__((vector_size(64)));
using V8l = int64_t __attribute__((vector_size(64)));
using V8i = int32_t __attribute__((vector_size(32)));

constexpr int kZero = -600;  // taken as exponent of a zero, below that of every term

inline int exponent_of(double x, int least) {
  const int e = static_cast<int>(bits_of(x) >> 52 & 0x7ff) - 1023;
  return x == 0.0 ? kZero : (e > least ? e : least);
}

// Exponents of the factors as the multiplier sees them.
EMU_VECTORIZE
void exponents(const double* x, int count, int least, int32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = exponent_of(x[i], least);
}

// acc[m][8] becomes the sum, exact in double, of acc and the products order[from, to), each truncated.
EMU_VECTORIZE
void add_block(const double* a, const int32_t* exponent_a, const double* b, const int32_t* exponent_b, double* acc,
               const int32_t* exponent_acc, const uint8_t* order, int from, int to, int m, int k, int fraction) {
  for (int i = 0; i < m; ++i) {
    V8i largest = reinterpret_cast<const V8i*>(exponent_acc)[i];
    for (int x = from; x < to; ++x) {
      const V8i e = exponent_a[i * k + order[x]] + reinterpret_cast<const V8i*>(exponent_b)[order[x]];
      largest = e > largest ? e : largest;
    }
    const V8i floor = {kZero, kZero, kZero, kZero, kZero, kZero, kZero, kZero};
    largest = largest > floor ? largest : floor;
    const V8l wide = __builtin_convertvector(largest, V8l);
    const V8d up = (V8d)((1023 + fraction - wide) << 52), down = (V8d)((1023 - fraction + wide) << 52);
    // Below 2^(fraction + 2), so that a conversion to int32 truncates.
    V8d sum = __builtin_convertvector(
        __builtin_convertvector(reinterpret_cast<const V8d*>(acc)[i] * up, V8i), V8d);
    for (int x = from; x < to; ++x) {
      const V8d p = (a[i * k + order[x]] * reinterpret_cast<const V8d*>(b)[order[x]]) * up;
      sum += __builtin_convertvector(__builtin_convertvector(p, V8i), V8d);
    }
    reinterpret_cast<V8d*>(acc)[i] = sum * down;
  }
}

EMU_VECTORIZE
void round_result(double* acc, int count, bool half, uint32_t keep, uint32_t* result) {
  if (half) {
    for (int i = 0; i < count; ++i) result[i] = half_nearest(acc[i] + 0.0);
  } else {
    for (int i = 0; i < count; ++i) result[i] = float_toward_zero(acc[i] + 0.0) & keep;
  }
}

// True when some result is infinite or NaN.
bool widen(const uint32_t* result, int count, bool half, double* acc) {
  if (!half) return decode(element_of(ptx::Type::kF32, false), result, count, acc).special;
  uint16_t halves[16 * kN];
  for (int i = 0; i < count; ++i) halves[i] = static_cast<uint16_t>(result[i]);
  return decode(element_of(ptx::Type::kF16, false), halves, count, acc).special;
}

// k in the order in which it fills the blocks.
void order_of(const TensorCore& core, int k, uint64_t seed, uint8_t* order) {
  if (core.through_half) {
    int at = 0;
    for (int high = 0; high < 2; ++high) {
      for (int x = 0; x < k; ++x) {
        if ((x % 4 >= 2) == (high == 1)) order[at++] = static_cast<uint8_t>(x);
      }
    }
  } else {
    for (int x = 0; x < k; ++x) order[x] = static_cast<uint8_t>(x);
  }
  if (core.order_known || seed == 0) return;
  for (int x = k - 1; x > 0; --x) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const int y = static_cast<int>((seed >> 33) % static_cast<uint64_t>(x + 1));
    const uint8_t other = order[y];
    order[y] = order[x];
    order[x] = other;
  }
}

// kind::mxf4*: 16 products share their scales and are added before anything is lost; such a sum counts as one term whose
// exponent is that of the two scales.
void add_groups(const Product& p, double* acc, int group, int fraction) {
  const int groups = p.k / group, groups_in_block = groups / p.scale_blocks;
  for (int i = 0; i < p.m; ++i) {
    for (int j = 0; j < kN; ++j) {
      double terms[kMaxK / 16 + 1];
      int e[kMaxK / 16 + 1], largest = kZero;
      for (int g = 0; g < groups; ++g) {
        double sum = 0.0;
        for (int x = g * group; x < (g + 1) * group; ++x) sum += p.a[i * p.k + x] * p.b[x * kN + j];
        const int block = g / groups_in_block;
        terms[g] = sum;
        e[g] = sum == 0.0 ? kZero
                          : exponent_of(p.scale_a[block][i], p.least_a[i]) + exponent_of(p.scale_b[block][j], p.least_b[j]);
      }
      terms[groups] = acc[i * kN + j];
      e[groups] = exponent_of(terms[groups], -126);
      for (int g = 0; g <= groups; ++g) largest = e[g] > largest ? e[g] : largest;
      double sum = 0.0;
      for (int g = 0; g <= groups; ++g) sum += std::trunc(std::ldexp(terms[g], fraction - largest));
      acc[i * kN + j] = std::ldexp(sum, largest - fraction);
    }
  }
}

}  // namespace

void aligned_product_sum(Product& p, const TensorCore& core, uint64_t seed) {
  const int count = p.m * kN;
  alignas(64) double acc[16 * kN];
  // Where not finite, that is the result whatever the integers of the adder give: infinite or NaN terms, and blocks whose
  // sum overflowed on the way.
  alignas(64) double decided[16 * kN];
  bool special = p.spread_a.special || p.spread_b.special || p.spread_c.special;
  if (special) plain_sum(p, decided);
  for (int at = 0; at < count; ++at) acc[at] = core.through_half ? 0.0 : p.c[at];
  const uint32_t keep = ~uint32_t{0} << (23 - core.result_fraction);
  const int least = p.half ? -14 : -126;
  if (core.group > 1) {
    add_groups(p, acc, core.group, core.fraction);
    round_result(acc, count, p.half, keep, p.result);
  } else {
    alignas(64) int32_t exponent_a[16 * kMaxK], exponent_b[kMaxK * kN], exponent_acc[16 * kN];
    uint8_t order[kMaxK];
    order_of(core, p.k, seed, order);
    for (int i = 0; i < p.m; ++i) exponents(p.a + i * p.k, p.k, p.least_a[i], exponent_a + i * p.k);
    for (int x = 0; x < p.k; ++x) {
      for (int j = 0; j < kN; ++j) exponent_b[x * kN + j] = exponent_of(p.b[x * kN + j], p.least_b[j]);
    }
    const int most = core.through_half ? p.k / 2 : core.terms;
    for (int from = 0; from < p.k; from += most) {
      if (from > 0 && widen(p.result, count, p.half, acc)) {
        for (int at = 0; at < count; ++at) {
          if (!special || (std::isfinite(decided[at]) && !std::isfinite(acc[at]))) decided[at] = acc[at];
        }
        special = true;
      }
      exponents(acc, count, least, exponent_acc);
      const int to = from + most < p.k ? from + most : p.k;
      add_block(p.a, exponent_a, p.b, exponent_b, acc, exponent_acc, order, from, to, p.m, p.k, core.fraction);
      round_result(acc, count, p.half, keep, p.result);
    }
    if (core.through_half) {
      widen(p.result, count, p.half, acc);
      for (int at = 0; at < count; ++at) {
        const double sum = acc[at] + p.c[at];  // of two floats: rounding it once more to f32 is the rounding of FADD
        p.result[at] = p.half ? half_nearest(sum) : float_nearest(sum);
      }
    }
  }
  if (!special) return;
  for (int at = 0; at < count; ++at) {
    if (!std::isfinite(decided[at])) p.result[at] = p.half ? half_nearest(decided[at]) : float_nearest(decided[at]);
  }
}

}  // namespace emu
