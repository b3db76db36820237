// D = A * B + C of one warp-wide mma in floating point, under two models of the arithmetic:
//   exact           all products exact, one sum with the accumulator, one rounding to nearest even
//   hardware-like   numerics/tensor_core.h
// Both: an infinite or NaN term decides as in IEEE arithmetic, NaN results are the canonical one (0x7fffffff, 0x7fff),
// a sum that is exactly zero is +0, subnormals are kept everywhere.
#pragma once

#include <cstdint>

#include "emu/numerics/element.h"
#include "emu/numerics/tensor_core.h"

namespace emu {

inline constexpr int kMaxK = 64;
inline constexpr int kN = 8;

// Large, and nowhere initialized: a handler has one on its stack and fills m, k and what they cover.
struct Product {
  int m, k;
  bool half;                             // accumulator and result are f16, else f32
  alignas(64) double a[16 * kMaxK];      // [m][k]
  alignas(64) double b[kMaxK * kN];      // [k][n]
  alignas(64) double c[16 * kN];         // [m][n]
  alignas(64) uint32_t result[16 * kN];  // bits of the accumulator type
  Spread spread_a, spread_b, spread_c;
  // For the hardware-like model: the least exponent that a factor is taken to have (subnormals are not normalized),
  // with the exponent of a block scale in it.
  int least_a[16], least_b[kN];
  // kind::mxf4*: significands and exponents of the scales, [block of k][row or column]; a and b have them multiplied
  // in.
  int scale_blocks;
  double scale_a[4][16], scale_b[4][kN];
};

void exact_product_sum(Product& p);
void aligned_product_sum(Product& p, const TensorCore& core, uint64_t seed);

// Shared by the two: the plain sum in double, whatever it loses; infinite or NaN exactly where the true result is.
void plain_sum(const Product& p, double* d);

}  // namespace emu
