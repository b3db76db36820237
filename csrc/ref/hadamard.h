// The Walsh-Hadamard transform along the last axis, block-diagonal:
//   y = scale * H diag(sign) x            (transpose: y = scale * diag(sign) H^T x)
// for blocks of n = m * 2^k <= 65536, H = H_m (x) H_{2^k} (Kronecker), H_{2^k} the Sylvester matrix in natural order
// (entry (i, j) is -1 to the number of common bits of i and j), H_m a Hadamard matrix of order m (hadamard_matrix.h).
//
// Arithmetic: fp32 additions, then one product with `scale`, then one rounding to the dtype of `out`. The order of the
// additions is the kernel's own: 2^k by butterflies, at most m - 1 additions deep in H_m. So results agree across ISAs
// within a bound, and exactly where every partial sum is an integer of magnitude at most 2^24. Work a block:
// n k additions for the butterflies and at most n (m - 1) for H_m, never n^2.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/status.h"
#include "ref/hadamard_matrix.h"

namespace lowbit {

struct HadamardArgs {
  Matrix x;  // rows x cols, cols a multiple of `block`
  int64_t block = 0;
  const float* sign = nullptr;  // [block] or [cols] of +-1, contiguous; nullptr: all +1
  int64_t sign_length = 0;
  float scale = 1.0f;
  bool transpose = false;
  Matrix out;  // may be x itself (in place): the same memory, strides and dtype
};

// The size of the blocks; refuses a block that has no Hadamard matrix and shapes that do not fit together.
Status check_hadamard(const HadamardArgs& args, HadamardSize* size);

namespace ref {
Status hadamard(const HadamardArgs& args, const Parallel& parallel);
}  // namespace ref
}  // namespace lowbit
