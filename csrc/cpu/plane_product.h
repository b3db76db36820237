// Products of codes of few bits as population counts of their bit planes: which pairs have them, what the counts stand
// for, and for how many rows they are quicker than products of bytes.
//
// With u = sum_i 2^i W_i, value(w) = multiply * u - offset (CodeTables: u8 = multiply * u), and X_j the planes of x:
//   two's complement and unsigned x   sum u x = sum_ij 2^i weight(j) |W_i & X_j|
//   bipolar x                         sum u x = sum_ij 2^(i + j) |W_i ^ ~X_j| + (2^p - 1) (sum x - columns (2^q - 1)) /
//   2
// since u and x are -u' / 2 + const and -x' of bits -1 and 1. Neither needs the sum of the weights.
#pragma once

#include "ref/gemm_args.h"

namespace lowbit::cpu {

inline constexpr int kMaxPlanesOfW = 2;
inline constexpr int kMaxPlanesOfX = 4;

struct PlaneProduct {
  int w_bits = 0, x_bits = 0;
  bool exclusive = false;  // x is bipolar: planes are compared, not intersected
  // Of the count of plane i of w with plane j of x, from the least significant: the same in four bytes.
  int32_t weight[kMaxPlanesOfW][kMaxPlanesOfX] = {};
  int32_t multiply = 1;

  // What the counts over `columns` columns lack, where the codes of x there have the sum `x_sum`.
  int32_t rest(int32_t x_sum, int32_t columns) const {
    return exclusive ? multiply * ((1 << w_bits) - 1) * ((x_sum - columns * ((1 << x_bits) - 1)) / 2) : 0;
  }
  // 4-byte words of 32 columns of a row of x: the planes; where they are compared, which columns count.
  int words() const { return x_bits + (exclusive ? 1 : 0); }
};

// The product of `args` by planes, when that is possible and quicker on `isa`. Sums that may leave int32 are not.
bool find_plane_product(const GemmArgs& args, const char* isa, PlaneProduct* product);

// The rows of x for which `isa` counts p planes of w with q of x; most 0: never.
struct PlaneRows {
  int64_t least, most;
};
LOWBIT_EXPORT PlaneRows plane_rows(const char* isa, int p, int q);

}  // namespace lowbit::cpu
