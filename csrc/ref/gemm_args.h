// The argument of the GEMM families and what the product means.
//
//   out[m, n] = sum_k x[m, k] * w[n, k]  (+ outliers of w)  (+ bias[n])
//
// Scale groups. The K axis is cut into segments: the maximal ranges on which every scale and zero point of x and of w
// is constant (for mixed widths also the matrix a group comes from). Segments are joined in ascending order.
//
// Integer path: both operands are integer codes or exact in int8 (int8_shift() >= 0; their factor 2^-shift is folded
// into the scale, exactly). With integer or absent zero points, per segment g of columns [k0, k1):
//   I_g = sum (cw - zw) (cx - zx)            exact
//   s_g = w scale; where x's scale also changes along K: fl(w scale * x scale)
//   y   = fma(float(I_g), s_g, y)            float() rounds once, to nearest even, also from beyond 2^31
// A float zero point zw of w enters as the second term of its segment:
//   y   = fma(float(I_g), s_g, y) with zw = 0 in I_g, then y = fma(float(X_g), -fl(s_g * zw), y), X_g = sum (cx - zx)
// After the last segment: y = fl(y * x scale) where x has one scale a row (or for all); outliers; y = fl(y + bias);
// round to the output dtype. y starts at +0. The same bits for every ISA, thread count, run, M and batch position.
//
// Float path: every other pair. Per segment the products of x and of the undecorated code values (value - zero) are
// summed in fp32, in an order of the kernel's own that depends on the shape of w alone; then the segment joins as above
// with that sum in place of float(I_g). x in 16 bits is exact in fp32; nothing is accumulated in 16 bits.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit {

struct GemmArgs {
  Matrix x;                     // M x K floats, when x_codes is absent
  const QMatrix* xq = nullptr;  // M x K codes
  QMatrix w;                    // N x K
  int64_t m = 0, n = 0, k = 0;
  const void* bias = nullptr;  // [N]
  DType bias_dtype = DType::kF32;
  int64_t bias_stride = 1;
  Matrix out;  // M x N; kI32: the raw integer sum (no scales, bias or float zero points)
};

// Whether the pair runs on the integer path.
bool is_integer_path(const GemmArgs& args);

}  // namespace lowbit
