// The Walsh-Hadamard transform along the last axis, block-diagonal:
//   y = scale * H diag(sign) x            (transpose: y = diag(sign) H^T x * scale)
// for blocks of n = m * 2^k, H = H_m (x) H_{2^k} (Kronecker), H_{2^k} the Sylvester matrix in natural order, H_m a
// constructible Hadamard matrix of order m (hadamard_matrix.h). Arithmetic: fp32 additions; the order of the stages is
// the kernel's own, so results agree across ISAs within a bound, and exactly for integers below 2^24.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/status.h"

namespace lowbit {

struct HadamardArgs {
  Matrix x;  // rows x cols, cols a multiple of `block`
  int64_t block = 0;
  const float* sign = nullptr;  // [block] or [cols] of +-1, contiguous; nullptr: all +1
  int64_t sign_length = 0;
  float scale = 1.0f;
  bool transpose = false;
  Matrix out;  // may be x itself (in place)
};

namespace ref {
Status hadamard(const HadamardArgs& args, const Parallel& parallel);
}  // namespace ref
}  // namespace lowbit
