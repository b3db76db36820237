#include "emu/numerics/paired_sum.h"

#include <algorithm>
#include <cstring>

#include "emu/exec/vectorize.h"
#include "emu/numerics/round.h"

namespace emu {
namespace {

using V16f = float __attribute__((vector_size(64)));
using V16i = int32_t __attribute__((vector_size(64)));
using V16u = uint32_t __attribute__((vector_size(64)));

// Scaled to integers, a term is below 2^(fraction + 2) and the accumulator below 2^(fraction + 1): an int32 holds eight
// terms and the accumulator.
constexpr int kTermsOfInt = 8, kMostTerms = 2 * kTermsOfInt, kMostFraction = 25;
// Stored exponents are not negative, so that two of them are added as one int64.
constexpr int kBias = 1024;
static_assert(kZeroExponent + kBias > 0);
// The least exponent to which nonzero products are aligned: its power of two and the inverse, shifted by the fraction,
// are normal floats.
constexpr int least_largest(int fraction) { return fraction - 125; }

// Lane 2 j + r is column j of row r of a pair of rows: A has its two rows side by side, B each column twice.
struct PairedOperands {
  alignas(64) float a[16 * kMaxK];      // [m / 2][k][2]
  alignas(64) float b[kMaxK * 2 * kN];  // [k][n][2]
  alignas(64) int32_t exponent_a[16 * kMaxK];
  alignas(64) int32_t exponent_b[kMaxK * 2 * kN];
  alignas(64) int64_t zero[kN];  // of which the compiler does not know, see add_terms
};

EMU_INLINE void interleave(const V8i& row0, const V8i& row1, V16i& pair) {
  pair = __builtin_shufflevector(row0, row1, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
}
EMU_INLINE void split(const V16i& pair, V8i& row0, V8i& row1) {
  row0 = __builtin_shufflevector(pair, pair, 0, 2, 4, 6, 8, 10, 12, 14);
  row1 = __builtin_shufflevector(pair, pair, 1, 3, 5, 7, 9, 11, 13, 15);
}

EMU_INLINE void larger(const V16i& a, const V16i& b, V16i& out) { out = a > b ? a : b; }

EMU_INLINE void exponents_of(const V16f& x, const V16i& least, V16i& out) {
  const V16i magnitude = (V16i)x & INT32_MAX, e = (magnitude >> 23) - 127;
  larger(e, least, out);
  out = magnitude == 0 ? V16i{} + kZeroExponent : out;
}

EMU_INLINE bool any_negative(const V16i& lanes) {
  int32_t bits = 0;
  for (int l = 0; l < 16; ++l) bits |= lanes[l];
  return bits < 0;
}

// The two values of a pair of rows as one scalar, so that it is broadcast where it meets a vector.
using Both = int64_t __attribute__((may_alias));
template <class T>
EMU_INLINE int64_t both(const T* pair) {
  return *reinterpret_cast<const Both*>(pair);
}

// Of `kTerms` products; 0: of `terms`.
template <int kTerms>
EMU_INLINE void find_largest(const int32_t* exponent_a, const V16i* exponent_b, int terms, V16i& largest) {
  for (int x = 0; x < (kTerms != 0 ? kTerms : terms); ++x) {
    larger((V16i)(both(exponent_a + 2 * x) + (V8l)exponent_b[x]), largest, largest);
  }
}
// Adding nothing to the pair makes it the scalar operand of an instruction; as a vector of eight equal words gcc would
// build it word by word.
template <int kTerms>
EMU_INLINE void add_terms(const float* a, const V16f* b, int terms, const V16f& up, const V8l& zero, V16i& sum) {
  for (int x = 0; x < (kTerms != 0 ? kTerms : terms); ++x) {
    sum += __builtin_convertvector(((V16f)(both(a + 2 * x) + zero) * b[x]) * up, V16i);
  }
}

// The sum, of that magnitude, times 2^(largest - fraction), truncated to a float.
constexpr uint32_t kMostMagnitude = 0x7fffff80;  // up to there its float is an int32 again
EMU_INLINE void truncate(const V16i& sum, const V16i& magnitude, const V16f& down, V16i& bits) {
  const V16f nearest = __builtin_convertvector(magnitude, V16f);
  const V16i above = __builtin_convertvector(nearest, V16i) > magnitude;  // -1 in a lane
  bits = (V16i)((V16f)((V16i)nearest + above) * down) | (sum & INT32_MIN);
}

EMU_VECTORIZE
void pair_operands(const Product& p, PairedOperands* paired) {
  const int k = p.k;
  std::memset(paired->zero, 0, sizeof paired->zero);
  // By eight of k: where k is less, what lies behind a pair is written again with the next one.
  for (int i = 0; i < p.m; i += 2) {
    const V8i l0 = V8i{} + p.least_a[i], l1 = V8i{} + p.least_a[i + 1];
    V16i least;
    interleave(l0, l1, least);
    for (int x = 0; x < k; x += 8) {
      V8d row0, row1;
      std::memcpy(&row0, p.a + i * k + x, sizeof row0);
      std::memcpy(&row1, p.a + (i + 1) * k + x, sizeof row1);
      V16i pairs, e;
      interleave((V8i) __builtin_convertvector(row0, V8f), (V8i) __builtin_convertvector(row1, V8f), pairs);
      exponents_of((V16f)pairs, least, e);
      e += kBias;
      std::memcpy(paired->a + i * k + 2 * x, &pairs, sizeof pairs);
      std::memcpy(paired->exponent_a + i * k + 2 * x, &e, sizeof e);
    }
  }
  V8i columns;
  for (int j = 0; j < kN; ++j) columns[j] = p.least_b[j];
  V16i least;
  interleave(columns, columns, least);
  for (int x = 0; x < k; ++x) {
    const V8i row = (V8i) __builtin_convertvector(reinterpret_cast<const V8d*>(p.b)[x], V8f);
    V16i& twice = reinterpret_cast<V16i*>(paired->b)[x];
    interleave(row, row, twice);
    V16i e;
    exponents_of((V16f)twice, least, e);
    reinterpret_cast<V16i*>(paired->exponent_b)[x] = e + kBias;
  }
}

// acc and the products of one block. A lane of `failed` becomes negative where int32 does not hold the sum.
template <int kTerms>
EMU_INLINE void add_block(const float* a, const int32_t* exponent_a, const V16f* b, const V16i* exponent_b, int terms,
                          int fraction, int floor, int keep, const V8l& zero, V16f& acc, V16i& failed) {
  V16i largest;
  exponents_of(acc, V16i{} - 126, largest);
  largest += 2 * kBias;
  find_largest<kTerms>(exponent_a, exponent_b, terms, largest);
  largest -= 2 * kBias;
  larger(largest, V16i{} + floor, largest);
  // Below it there is no product but zeros, and the accumulator stays.
  const V16i least = V16i{} + least_largest(fraction), alone = (largest - least) >> 31;
  larger(largest, least, largest);
  const V16f up = (V16f)((127 + fraction - largest) << 23), down = (V16f)((127 - fraction + largest) << 23);
  V16i low = __builtin_convertvector(acc * up, V16i), high = {};
  const int first = std::min(terms, kTermsOfInt);
  add_terms<(kTerms < kTermsOfInt ? kTerms : kTermsOfInt)>(a, b, first, up, zero, low);
  if (terms > kTermsOfInt) {
    add_terms<(kTerms > kTermsOfInt ? kTerms - kTermsOfInt : 0)>(a + 2 * first, b + first, terms - first, up, zero,
                                                                 high);
  }
  const V16i sum = (V16i)((V16u)low + (V16u)high);
  const V16u magnitude = sum < 0 ? 0 - (V16u)sum : (V16u)sum;
  const V16i out_of_range = ((low ^ sum) & (high ^ sum)) | (V16i)(magnitude + (INT32_MAX - kMostMagnitude));
  V16i bits;
  truncate(sum, (V16i)magnitude, down, bits);
  bits = (((V16i)(acc + 0.0f) & alone) | (bits & ~alone)) & keep;
  acc = (V16f)bits;
  failed |= out_of_range & ~alone;
}

EMU_VECTORIZE
bool add_paired(const PairedOperands& paired, Product& p, int terms, int fraction, int floor, int keep,
                bool from_zero) {
  const int k = p.k;
  const V16f* b = reinterpret_cast<const V16f*>(paired.b);
  const V16i* exponent_b = reinterpret_cast<const V16i*>(paired.exponent_b);
  const V8l zero = *reinterpret_cast<const V8l*>(paired.zero);
  V16i failed = {};
  for (int i = 0; i < p.m; i += 2) {
    const V8d* rows = reinterpret_cast<const V8d*>(p.c) + i;
    V16i c;
    interleave((V8i) __builtin_convertvector(rows[0], V8f), (V8i) __builtin_convertvector(rows[1], V8f), c);
    V16f acc = from_zero ? V16f{} : (V16f)c;
    for (int x = 0; x < k; x += terms) {
      const float* a = paired.a + i * k + 2 * x;
      const int32_t* exponent_a = paired.exponent_a + i * k + 2 * x;
      const int count = std::min(terms, k - x);
      if (count == 16) {
        add_block<16>(a, exponent_a, b + x, exponent_b + x, 16, fraction, floor, keep, zero, acc, failed);
      } else if (count == 8) {
        add_block<8>(a, exponent_a, b + x, exponent_b + x, 8, fraction, floor, keep, zero, acc, failed);
      } else {
        add_block<0>(a, exponent_a, b + x, exponent_b + x, count, fraction, floor, keep, zero, acc, failed);
      }
      if (x + terms < k || from_zero) failed |= 0x7f7fffff - ((V16i)acc & INT32_MAX);  // infinite or NaN
    }
    if (from_zero) acc += (V16f)c;
    V8i row0, row1;
    split((V16i)acc, row0, row1);
    reinterpret_cast<V8i*>(p.result)[i] = row0;
    reinterpret_cast<V8i*>(p.result)[i + 1] = row1;
  }
  return !any_negative(failed);
}

}  // namespace

bool fits_pairs(const Product& p, int terms, int fraction) {
  const Spread &a = p.spread_a, &b = p.spread_b;
  if (p.half || p.m % 2 != 0 || terms > kMostTerms || fraction > kMostFraction) return false;
  if (a.special || b.special || p.spread_c.special) return false;
  if (a.high > 127 || b.high > 127 || a.low < -126 || b.low < -126) return false;
  return a.high + b.high + 2 <= 127 && a.low + b.low >= least_largest(fraction);
}

bool add_pairs(Product& p, const TensorCore& core, int terms) {
  PairedOperands paired;
  pair_operands(p, &paired);
  const int keep = -(1 << (23 - core.result_fraction));
  return add_paired(paired, p, terms, core.fraction, core.least_f32, keep, core.through_half);
}

}  // namespace emu
