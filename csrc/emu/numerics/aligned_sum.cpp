#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "emu/exec/vectorize.h"
#include "emu/numerics/paired_sum.h"
#include "emu/numerics/product_sum.h"
#include "emu/numerics/round.h"

namespace emu {
namespace {

inline int exponent_of(double x, int least) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const int e = static_cast<int>(bits >> 52 & 0x7ff) - 1023;
  return x == 0.0 ? kZeroExponent : (e > least ? e : least);
}

// Exponents of the factors as the multiplier sees them; `step` 0: all have the same least one.
EMU_VECTORIZE
void exponents(const double* x, int count, const int* least, int32_t* out, int step) {
  if (step == 0) {
    const int common = *least;
    for (int i = 0; i < count; ++i) out[i] = exponent_of(x[i], common);
  } else {
    for (int i = 0; i < count; ++i) out[i] = exponent_of(x[i], least[i]);
  }
}

// acc[m][8] becomes the sum, exact in double, of acc and the products [from, to), each truncated.
EMU_VECTORIZE
void add_block(const double* a, const int32_t* exponent_a, const double* b, const int32_t* exponent_b, double* acc,
               const int32_t* exponent_acc, int from, int to, int m, int k, int fraction, int least) {
  for (int i = 0; i < m; ++i) {
    V8i largest = reinterpret_cast<const V8i*>(exponent_acc)[i];
    for (int x = from; x < to; ++x) {
      const V8i e = exponent_a[i * k + x] + reinterpret_cast<const V8i*>(exponent_b)[x];
      largest = e > largest ? e : largest;
    }
    const V8i floor = V8i{} + least;
    largest = largest > floor ? largest : floor;
    const V8l wide = __builtin_convertvector(largest, V8l);
    const V8d up = (V8d)((1023 + fraction - wide) << 52), down = (V8d)((1023 - fraction + wide) << 52);
    // A term is below 2^(fraction + 2) <= 2^27, so that its conversion to int32 truncates and eight of them fit.
    V8d sum = __builtin_convertvector(__builtin_convertvector(reinterpret_cast<const V8d*>(acc)[i] * up, V8i), V8d);
    for (int x = from; x < to; x += 8) {
      V8i part = {};
      for (int y = x; y < (x + 8 < to ? x + 8 : to); ++y) {
        part += __builtin_convertvector((a[i * k + y] * reinterpret_cast<const V8d*>(b)[y]) * up, V8i);
      }
      sum += __builtin_convertvector(part, V8d);
    }
    reinterpret_cast<V8d*>(acc)[i] = sum * down;
  }
}

EMU_VECTORIZE
void round_result(const double* acc, int rows, bool half, int keep, uint32_t* result) {
  for (int i = 0; i < rows; ++i) {
    V8l bits;
    if (half) {
      round_half(reinterpret_cast<const V8d*>(acc)[i], bits);
    } else {
      truncate_float(reinterpret_cast<const V8d*>(acc)[i], bits);
    }
    reinterpret_cast<V8i*>(result)[i] = __builtin_convertvector(bits, V8i) & (half ? -1 : keep);
  }
}

// IEEE addition of the accumulator and the sum of the products: of two floats in double, which a second rounding does
// not spoil.
EMU_VECTORIZE
void add_accumulator(const double* sum, const double* c, int rows, bool half, uint32_t* result) {
  for (int i = 0; i < rows; ++i) {
    V8l bits;
    const V8d total = reinterpret_cast<const V8d*>(sum)[i] + reinterpret_cast<const V8d*>(c)[i];
    if (half) {
      round_half(total, bits);
    } else {
      round_float(total, bits);
    }
    reinterpret_cast<V8i*>(result)[i] = __builtin_convertvector(bits, V8i);
  }
}

// True when some result is infinite or NaN.
bool widen(const uint32_t* result, int count, bool half, double* acc) {
  if (!half) return decode(element_of(ptx::Type::kF32, false), result, count, acc).special;
  uint16_t halves[16 * kN];
  for (int i = 0; i < count; ++i) halves[i] = static_cast<uint16_t>(result[i]);
  return decode(element_of(ptx::Type::kF16, false), halves, count, acc).special;
}

// k in the order in which it fills the blocks; false where that is the ascending one.
bool order_of(const TensorCore& core, int k, uint64_t seed, uint8_t* order) {
  if (!core.through_half && (core.order_known || seed == 0)) return false;
  int at = 0;
  for (int high = 0; high < 2; ++high) {
    for (int x = 0; x < k; ++x) {
      if ((core.through_half && x % 4 >= 2) == (high == 1)) order[at++] = static_cast<uint8_t>(x);
    }
  }
  if (core.order_known || seed == 0) return true;
  for (int x = k - 1; x > 0; --x) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[x], order[(seed >> 33) % static_cast<uint64_t>(x + 1)]);
  }
  return true;
}

void permute(Product& p, const uint8_t* order) {
  double row[kMaxK], b[kMaxK * kN];
  for (int i = 0; i < p.m; ++i) {
    double* a = p.a + i * p.k;
    for (int x = 0; x < p.k; ++x) row[x] = a[order[x]];
    std::memcpy(a, row, sizeof(double) * p.k);
  }
  for (int x = 0; x < p.k; ++x) std::memcpy(b + x * kN, p.b + order[x] * kN, sizeof(double) * kN);
  std::memcpy(p.b, b, sizeof(double) * kN * p.k);
}

// kind::mxf4*: 16 products share their scales and are added before anything is lost; such a sum counts as one term
// whose exponent is that of the two scales, be it zero, unless every product is.
void add_groups(const Product& p, double* acc, int group, int fraction, int floor) {
  const int groups = p.k / group, groups_in_block = groups / p.scale_blocks;
  for (int i = 0; i < p.m; ++i) {
    for (int j = 0; j < kN; ++j) {
      double terms[kMaxK / 16 + 1];
      int e[kMaxK / 16 + 1], largest = floor;
      for (int g = 0; g < groups; ++g) {
        double sum = 0.0;
        bool zero = true;
        for (int x = g * group; x < (g + 1) * group; ++x) {
          const double product = p.a[i * p.k + x] * p.b[x * kN + j];
          sum += product;
          zero &= product == 0.0;
        }
        const int block = g / groups_in_block;
        terms[g] = sum;
        e[g] = zero ? kZeroExponent
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
  // Where not finite, that is the result whatever the integers of the adder give: infinite or NaN terms, and blocks
  // whose sum overflowed on the way.
  alignas(64) double decided[16 * kN];
  bool special = p.spread_a.special || p.spread_b.special || p.spread_c.special;
  if (special) plain_sum(p, decided);
  for (int at = 0; at < count; ++at) acc[at] = core.through_half ? 0.0 : p.c[at];
  const int keep = -(1 << (23 - core.result_fraction));
  const int least = p.half ? -14 : -126, floor = p.half ? core.least_f16 : core.least_f32;
  if (core.group > 1) {
    add_groups(p, acc, core.group, core.fraction, floor);
    round_result(acc, p.m, p.half, keep, p.result);
  } else {
    uint8_t order[kMaxK];
    if (order_of(core, p.k, seed, order)) permute(p, order);
    if (core.through_half) {  // converted to f16, the subnormals of e4m3 are normalized
      std::fill(p.least_a, p.least_a + p.m, -14);
      std::fill(p.least_b, p.least_b + kN, -14);
    }
    const int most = core.through_half ? p.k / 2 : core.terms;
    if (fits_pairs(p, most, core.fraction) && add_pairs(p, core, most)) return;
    alignas(64) int32_t exponent_a[16 * kMaxK], exponent_b[kMaxK * kN], exponent_acc[16 * kN];
    for (int i = 0; i < p.m; ++i) exponents(p.a + i * p.k, p.k, p.least_a + i, exponent_a + i * p.k, 0);
    for (int x = 0; x < p.k; ++x) exponents(p.b + x * kN, kN, p.least_b, exponent_b + x * kN, 1);
    for (int from = 0; from < p.k; from += most) {
      if (from > 0 && widen(p.result, count, p.half, acc)) {
        for (int at = 0; at < count; ++at) {
          if (!special || (std::isfinite(decided[at]) && !std::isfinite(acc[at]))) decided[at] = acc[at];
        }
        special = true;
      }
      exponents(acc, count, &least, exponent_acc, 0);
      const int to = from + most < p.k ? from + most : p.k;
      add_block(p.a, exponent_a, p.b, exponent_b, acc, exponent_acc, from, to, p.m, p.k, core.fraction, floor);
      round_result(acc, p.m, p.half, keep, p.result);
    }
    if (core.through_half) {
      widen(p.result, count, p.half, acc);
      add_accumulator(acc, p.c, p.m, p.half, p.result);
    }
  }
  if (!special) return;
  for (int at = 0; at < count; ++at) {
    if (std::isfinite(decided[at])) continue;
    const uint32_t infinity = p.half ? 0x7c00 : 0x7f800000, sign = p.half ? 0x8000 : 0x80000000;
    const int64_t nan = p.half ? kHalfNan : kFloatNan;
    p.result[at] = std::isnan(decided[at]) ? static_cast<uint32_t>(nan) : infinity | (decided[at] < 0 ? sign : 0);
  }
}

}  // namespace emu
