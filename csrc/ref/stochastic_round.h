// Unbiased rounding. x between neighbouring values a < b of a format becomes b when its 16 random bits (philox.h) are
// below p = (x - a) / (b - a) * 2^16 rounded to the nearest integer, ties to even, else a: so up with probability
// distance rounded to 2^-16. A value of the format never moves; beyond the range x saturates; infinities and NaN encode
// as formats.def has it; a zero keeps the sign of x. The same bits on every ISA, for any tiling and thread count.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/philox.h"
#include "common/qmatrix.h"
#include "common/status.h"
#include "ref/scaling.h"

namespace lowbit {

// The 16-bit floats as element formats, for stochastic_round alone.
inline constexpr ElementFormat kBFloat16 = {"bfloat16", Kind::kFloat, 16,          kSigned,   8,      7,
                                            127,        kIeee,        kTiesToEven, kSaturate, nullptr};
inline constexpr ElementFormat kFloat16 = {"float16", Kind::kFloat, 16,          kSigned,   5,      10,
                                           15,        kIeee,        kTiesToEven, kSaturate, nullptr};

// The code `x` is rounded to with the 16 random bits `random`.
uint32_t encode_stochastic(const ElementFormat& f, float x, uint32_t random, const float* codebook = nullptr);

struct StochasticRoundArgs {
  Matrix x;
  const ElementFormat* format = nullptr;  // not complex, no codebook
  Philox random;                          // element (r, c) has index r * cols + c
  Matrix out;                             // the rounded values, in a dtype of their own
};

// W <- SR(W + dW) on the codes of w, per element, in fp32:
//   as they are   y = decode(code) + fl(dw / scale)        the zero point drops out; dw = 0 moves nothing
//   rescale       v = fl(fl(fl(decode(code) - zero) * scale) + dw); new scales (and integer zero points) of v's blocks
//                 by scaling.h; y = fl(v / new scale), then + new zero
//   new code = SR(y)
struct WeightUpdateArgs {
  QMatrix w;  // canonical codes, written in place
  Matrix dw;  // rows x cols
  Philox random;
  int64_t first_row = 0;  // row of w in the logical tensor, for the index of the random bits
  bool rescale = false;
  Scaling scaling;  // rescale: with contiguous stores for the new scales and zero points, which may not be those of w
};

namespace ref {

// Fails when x is NaN and the format has none.
Status stochastic_round(const StochasticRoundArgs& args, const Parallel& parallel);

// The sentence of that failure, for kernels that found one.
Status nan_value(const StochasticRoundArgs& args, int64_t row, int64_t col);

// What can fail of an update, before a code of any matrix is written: dw is not finite; with `rescale` the new scales,
// which this computes into their stores, overflow.
Status prepare_update(const WeightUpdateArgs& args, const Parallel& parallel);

// The update itself, after prepare_update.
Status stochastic_round_update(const WeightUpdateArgs& args, const Parallel& parallel);

}  // namespace ref
}  // namespace lowbit
