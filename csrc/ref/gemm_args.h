// The argument of the GEMM families and what the product means.
//
//   out[m, n] = sum_k x[m, k] * w[n, k]  (+ outliers of w)  (+ bias[n])
//
// Scale groups. The K axis is cut into segments: the maximal ranges on which no scale or zero point of x or of w
// begins a new block (for mixed widths also: on which the codes come from one matrix). Segments are joined in ascending
// order. What is one block along K (block.cols == 0) cuts nothing.
//
// Integer path: both operands are integer codes or exact in int8 (int8_shift() >= 0), and the zero point of x is
// absent or an integer. With shift = int8_shift(format), cw and cx are the integers value * 2^shift, the scale of each
// operand is multiplied by its 2^-shift and a zero point by 2^shift (both exact but for subnormal scales). Per segment:
//   I_g = sum (cw - zw) (cx - zx)            exact modulo 2^64: exact for zero points within the range of the codes
//   s_g = w scale; where x's scale also changes along K: fl(w scale * x scale)
//   y   = fma(float(I_g), s_g, y)            float() rounds once, to nearest even, also from beyond 2^31
// A float zero point zw of w enters as the second term of its segment:
//   y   = fma(float(I_g), s_g, y) with zw = 0 in I_g, then y = fma(float(X_g), -fl(s_g * zw), y), X_g = sum (cx - zx)
// After the last segment: y = fl(y * x scale) where x has one scale a row (or for all); outliers of w, as they are
// listed: y = fma(x[m, col], value, y), x[m, col] = fl(x scale * (code - zx)); y = fl(y + bias); round to the output
// dtype. y starts at +0; an absent scale is 1. The same bits for every ISA, thread count, run, M and batch position.
//
// Float path: every other pair. Per segment the products of x and of the unscaled values fl(value - zero) are summed in
// fp32, in an order of the kernel's own that depends on K and the formats alone; then the segment joins as above with
// that sum in place of float(I_g). x in 16 bits is exact in fp32; nothing is accumulated in 16 bits.
//
// Complex weights (complex2, N x K) are the real matrix [[Re, -Im], [Im, Re]] of 2 N x 2 K with codes in {-1, 0, +1}:
// x is [M, 2 K] = [real | imaginary], out [M, 2 N] = [real | imaginary]. It is cut at K, and each half at the blocks of
// w; the scale of a code is that of (n, k), of its class (real or imaginary) where there is one for each.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit {

struct GemmArgs {
  Matrix x;                     // M x K floats, when xq is absent
  const QMatrix* xq = nullptr;  // M x K codes
  QMatrix w;                    // N x K
  int64_t m = 0, n = 0, k = 0;  // of w; complex2: x has 2 k columns, out 2 n
  const void* bias = nullptr;   // one per column of out
  DType bias_dtype = DType::kF32;
  int64_t bias_stride = 1;
  Matrix out;  // M x N; kI32: the raw integer sum (no scales, bias or float zero points)
};

// Whether the pair runs on the integer path.
bool is_integer_path(const GemmArgs& args);

}  // namespace lowbit
