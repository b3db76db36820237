// Floats to codes and scales, and back. The scale rules:
//   float scales      scale = amax / scale_max(element), rounded to the scale dtype; a block of zeros gets scale 1
//   asymmetric        unsigned integers: [lo, hi] = the block's range widened to hold 0, scale = (hi - lo) / (2^b - 1),
//                     zero = encode(-lo / scale), an integer code
//   coded scales      blocks.def (kPowerFloor, kTwoLevel); two-level scales of other formats as kTwoLevel
// code = encode(x / (scale as it is stored)), one fp32 division; stochastic: one of the two neighbours, up with
// probability distance / step rounded to 2^-16 (philox.h), values of the format never move.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/philox.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit {

// Writable storage of block values: `rows` x `cols` of them, contiguous; floats of `dtype`, or codes in the canonical
// layout of `format` (zeroed by the caller).
struct BlockStore {
  void* data = nullptr;
  DType dtype = DType::kF32;
  const ElementFormat* format = nullptr;
  int64_t rows = 0, cols = 0;
};

struct QuantizeArgs {
  Matrix x;  // rows x cols floats
  Spec spec;
  const float* codebook = nullptr;
  BlockValues scale, zero;  // given ones (static quantization); absent: computed into the stores
  BlockStore scale_out, scale2_out, zero_out;
  bool asymmetric = false;
  bool stochastic = false;
  Philox random;
  int64_t first_row = 0;  // row of x in the logical tensor, for the index of the random bits
  int64_t hadamard = 0;   // > 0: x is first transformed in blocks of this size (orthonormal)
  void* codes = nullptr;  // rows x cols in `layout`, contiguous, zeroed by the caller
  Layout layout = Layout::kCanonical;
};

struct DequantizeArgs {
  QMatrix w;
  int64_t rows = 0;
  const int64_t* ids = nullptr;  // rows to take, [rows]; nullptr: all, in order
  Matrix out;                    // rows x cols (2 cols for complex2: real part, then imaginary part)
};

namespace ref {
Status quantize(const QuantizeArgs& args, const Parallel& parallel);
Status dequantize(const DequantizeArgs& args, const Parallel& parallel);
}  // namespace ref
}  // namespace lowbit
