#include <cmath>

#include "emu/exec/vectorize.h"
#include "emu/numerics/product_sum.h"
#include "emu/numerics/round.h"

namespace emu {
namespace {

// Four rows at a time: one row alone waits for the latency of its additions.
EMU_VECTORIZE
void plain(const double* a, const double* b, const double* c, double* d, int m, int k) {
  for (int i = 0; i < m; i += 4) {
    const V8d* start = reinterpret_cast<const V8d*>(c) + i;
    V8d s0 = start[0], s1 = start[1], s2 = start[2], s3 = start[3];
    const double* a0 = a + i * k;
    for (int x = 0; x < k; ++x) {
      const V8d column = reinterpret_cast<const V8d*>(b)[x];
      s0 += a0[x] * column;
      s1 += a0[x + k] * column;
      s2 += a0[x + 2 * k] * column;
      s3 += a0[x + 3 * k] * column;
    }
    V8d* out = reinterpret_cast<V8d*>(d) + i;
    out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;
  }
}

// Whether every partial sum, in any order, is a multiple of a power of two below 2^53 times it.
bool fits_double(const Product& p) {
  if (p.spread_a.high == Spread::kNone || p.spread_b.high == Spread::kNone) return true;
  int log2_k = 0;
  while ((1 << log2_k) < p.k) ++log2_k;
  const int products = p.spread_a.high + p.spread_b.high + 2 + log2_k;
  const int top = (products > p.spread_c.high + 1 ? products : p.spread_c.high + 1) + 1;
  const int product_low = p.spread_a.low + p.spread_b.low;
  return top - (product_low < p.spread_c.low ? product_low : p.spread_c.low) <= 53;
}

// The sum as an unevaluated pair s + e by TwoSum, exact where the sums of the errors are, which is watched. The pair is
// then rounded to odd: 53 bits are two more than any accumulator needs.
EMU_VECTORIZE
void compensated(const double* a, const double* b, const double* c, double* d, int64_t* inexact, int m, int k) {
  for (int i = 0; i < m; ++i) {
    V8d s = reinterpret_cast<const V8d*>(c)[i], e = {};
    V8l lost = {};
    for (int x = 0; x < k; ++x) {
      const V8d p = a[i * k + x] * reinterpret_cast<const V8d*>(b)[x];
      const V8d t = s + p, z = t - s;
      const V8d error = (s - (t - z)) + (p - z);
      s = t;
      const V8d u = e + error, y = u - e;
      const V8d lost_now = (e - (u - y)) + (error - y);
      lost |= lost_now != 0.0;
      e = u;
    }
    const V8d t = s + e, z = t - s;
    const V8d rest = (s - (t - z)) + (e - z);
    V8l bits = (V8l)t;  // the same bits
    const V8l even = (bits & 1) == 0, apart = rest != 0.0;
    const V8l outward = (rest > 0.0) == (t > 0.0);
    const V8l step = (outward & 1) | (~outward & -1);
    bits += even & apart & step;
    reinterpret_cast<V8l*>(d)[i] = bits;
    reinterpret_cast<V8l*>(inexact)[i] = lost;
  }
}

// A two's complement fixed-point number wide enough for any sum of products of any formats and scales.
class WideSum {
 public:
  void add(double x) {
    if (x == 0.0) return;
    int exponent;
    const int64_t mantissa = static_cast<int64_t>(std::ldexp(std::frexp(x, &exponent), 53));
    const int at = exponent - 53 + kPoint;
    const int limb = at / 64, shift = at % 64;
    const unsigned __int128 wide = static_cast<unsigned __int128>(static_cast<__int128>(mantissa)) << shift;
    unsigned __int128 carry = 0;
    for (int l = limb; l < kLimbs; ++l) {
      const int place = l - limb;
      const uint64_t part = place == 0   ? static_cast<uint64_t>(wide)
                            : place == 1 ? static_cast<uint64_t>(wide >> 64)
                                         : (mantissa < 0 ? ~uint64_t{0} : 0);
      carry += static_cast<unsigned __int128>(limbs_[l]) + part;
      limbs_[l] = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
  }

  double to_odd() const {
    uint64_t magnitude[kLimbs];
    const bool negative = limbs_[kLimbs - 1] >> 63;
    unsigned __int128 carry = negative ? 1 : 0;
    for (int l = 0; l < kLimbs; ++l) {
      carry += negative ? ~limbs_[l] : limbs_[l];
      magnitude[l] = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
    int top = kLimbs - 1;
    while (top >= 0 && magnitude[top] == 0) --top;
    if (top < 0) return 0.0;
    const int highest = top * 64 + 63 - __builtin_clzll(magnitude[top]);
    const int low = highest > 52 ? highest - 52 : 0;
    uint64_t kept = magnitude[low / 64] >> (low % 64);
    if (low % 64 != 0 && low / 64 + 1 < kLimbs) kept |= magnitude[low / 64 + 1] << (64 - low % 64);
    kept &= (uint64_t{1} << 53) - 1;
    bool sticky = low % 64 != 0 && (magnitude[low / 64] << (64 - low % 64)) != 0;
    for (int l = 0; l < low / 64; ++l) sticky |= magnitude[l] != 0;
    const double value = std::ldexp(static_cast<double>(kept | (sticky ? 1 : 0)), low - kPoint);
    return negative ? -value : value;
  }

 private:
  // e4m3 of the least scales: (2^-9 * 2^-127)^2; the largest: (2^16 * 2^127)^2 * 64.
  static constexpr int kLimbs = 16, kPoint = 512;
  uint64_t limbs_[kLimbs] = {};
};

EMU_VECTORIZE
void store_nearest(const double* d, int rows, bool half, uint32_t* result) {
  for (int i = 0; i < rows; ++i) {
    V8l bits;
    if (half) {
      round_half(reinterpret_cast<const V8d*>(d)[i], bits);
    } else {
      round_float(reinterpret_cast<const V8d*>(d)[i], bits);
    }
    reinterpret_cast<V8i*>(result)[i] = __builtin_convertvector(bits, V8i);
  }
}

}  // namespace

void plain_sum(const Product& p, double* d) { plain(p.a, p.b, p.c, d, p.m, p.k); }

void exact_product_sum(Product& p) {
  alignas(64) double d[16 * kN];
  plain_sum(p, d);
  if (p.spread_a.special || p.spread_b.special || p.spread_c.special || !fits_double(p)) {
    alignas(64) double pair[16 * kN];
    alignas(64) int64_t inexact[16 * kN];
    compensated(p.a, p.b, p.c, pair, inexact, p.m, p.k);
    for (int at = 0; at < p.m * kN; ++at) {
      if (!std::isfinite(d[at])) continue;
      d[at] = pair[at];
      if (inexact[at] == 0) continue;
      WideSum sum;
      sum.add(p.c[at]);
      for (int x = 0; x < p.k; ++x) sum.add(p.a[at / kN * p.k + x] * p.b[x * kN + at % kN]);
      d[at] = sum.to_odd();
    }
  }
  store_nearest(d, p.m, p.half, p.result);
}

}  // namespace emu
