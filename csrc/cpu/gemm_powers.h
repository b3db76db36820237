// Scales along K that are powers of two (E8M0) as part of the operands, for engines that add sums of 32 columns of bf16
// to y as tdpbf16ps does: te and to, the fused sums of even and of odd products from 0, then y = fl(y + fl(te + to)).
//
// The bits are those of y = fma(fl(te + to), s, y) over unscaled values, s = 2^e of w times 2^f of x. A power of two
// commutes with every rounding where no number leaves the normal ones, so that scaled operands give te 2^(e + f),
// to 2^(e + f) and fl(te + to) 2^(e + f), which is exact; then both ways round once, to the same. Numbers stay normal
// where the products of two scaled values are multiples of 2^-126, since all sums, y too, then are such multiples or
// zero, and where 32 of them stay below 2^127. (y may overflow: it does so in both.) On the integer path te and to are
// exact: 16 products of at most 2^16. PowerWindow states this for exponents of w's scales, once those of x are known.
#pragma once

#include <algorithm>
#include <climits>

#include "cpu/code_tables.h"
#include "ref/gemm_args.h"

namespace lowbit::cpu {

// Of numbers: all are multiples of 2^low and below 2^high in magnitude.
struct Powers {
  int32_t low = INT_MAX / 4, high = INT_MIN / 4;  // of no number
  void add(Powers other) { low = std::min(low, other.low), high = std::max(high, other.high); }
};

struct PowerWindow {
  int32_t least, most;
};

// The exponents that scales of w may have for the bits to be kept. x: the values of its codes, nullptr: it is floats;
// of_x: as it is multiplied. False where there are none. Values of codes must span 1: then a scale that is no normal
// number is outside of the window by its exponent field, and products of scales that are inside are finite.
bool find_window(const CodeTables& w, const CodeTables* x, Powers of_x, PowerWindow* window);

// The numbers that n values of `scale`, powers of two, make of a table's; of n floats in bf16, of which denormals are
// zeros to the instruction.
Powers scaled_powers(const CodeTables& table, const float* scale, int64_t n);
Powers float_powers(const uint16_t* x, int64_t n);

// Whether formats, blocks and scales are such that the above holds where the exponents fit. x is codes or bf16.
bool scales_are_powers(const GemmArgs& args);

}  // namespace lowbit::cpu
