// Floats to codes and scales, and back.
//
// quantize, per element, every operation in fp32 and rounded once:
//   t = x, or the block Hadamard transform of x (`hadamard` > 0): butterflies (a + b, a - b) of distance 1, 2, 4, ...
//       within each block of that size, then one product with fl(1 / sqrt(size))
//   y = t / s, s the scale as it is stored and as qmatrix.h reads it (a scale of 0 gives y = 0); y = y + zero
//   code = encode(y); stochastic: one of the two neighbours of y in the format (stochastic_round.h), with the random
//       bits of element (first_row + row) * cols + column
// Scales follow from the blocks (scaling.h) or are given. The same bits on every ISA.
//
// complex2: x holds (real, imaginary) pairs; code = phase class (encode_complex); two scales a block: the mean of
// |real| over the elements of a real class (+-1) and of |imaginary| over those of an imaginary class (+-i), 1 where
// there are none or the mean is 0. Sums in float64, columns then rows ascending, one rounding. (iFairy, Wang et al.
// 2025, has one block: the tensor.)
//
// dequantize: value = fl(fl(decode(code) - zero) * scale), outliers added in fp32, rounded to the output dtype.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/philox.h"
#include "common/qmatrix.h"
#include "common/status.h"
#include "ref/scaling.h"

namespace lowbit {

inline constexpr int64_t kMaxFusedHadamard = 4096;

struct QuantizeArgs {
  Matrix x;  // rows x cols floats, 2 cols for complex2
  int64_t rows = 0, cols = 0;
  Scaling scaling;          // with the stores of what is computed; complex2: its scale store holds two matrices
  BlockValues scale, zero;  // given ones (static quantization); then the rule has no stores
  bool stochastic = false;
  Philox random;
  int64_t first_row = 0;  // row of x in the logical tensor, for the index of the random bits
  int64_t hadamard = 0;   // power of two up to kMaxFusedHadamard that divides cols
  void* codes = nullptr;  // contiguous, may be uninitialized
  // kCanonical, or kPlain: signed and ternary integers sign-extended to a byte, others zero-extended
  Layout layout = Layout::kCanonical;
};

struct DequantizeArgs {
  const char* op = "dequantize";  // opens error sentences
  QMatrix w;
  int64_t rows = 0;              // of the output
  const int64_t* ids = nullptr;  // rows of w to take, [rows], within range; nullptr: all, in order
  Matrix out;                    // rows x cols; complex2: rows x 2 cols, (real, imaginary) pairs
};

namespace ref {

// Fails when x is not finite or a scale overflows; the outputs then hold nothing of use. Per row and per group with
// float scales, and in every kPlain call, kernels allocate nothing.
Status quantize(const QuantizeArgs& args, const Parallel& parallel);

// Fails on a code that is no value of the format and on a scale that is not finite.
Status dequantize(const DequantizeArgs& args, const Parallel& parallel);

// The sentences of those failures, for kernels that found one: x is not finite at (row, col); row `row` of w is
// damaged.
Status non_finite(const QuantizeArgs& args, int64_t row, int64_t col);
Status bad_value(const DequantizeArgs& args, int64_t row);

// Fails when a given scale or zero point is not finite.
Status check_given(const QuantizeArgs& args);

// The values of all codes of `f`, for kernels that look them up.
void decode_table(const ElementFormat& f, const float* codebook, float values[256]);

}  // namespace ref
}  // namespace lowbit
