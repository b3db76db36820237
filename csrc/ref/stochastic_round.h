// Unbiased rounding: x between neighbours a < b of a format goes up with probability (x - a) / (b - a) rounded to
// 2^-16; a representable x never moves; beyond the range it saturates. Random bits: philox.h.
#pragma once

#include "common/matrix.h"
#include "common/parallel.h"
#include "common/philox.h"
#include "common/qmatrix.h"
#include "common/status.h"

namespace lowbit {

// The code `x` is rounded to with the 16 random bits `random`.
uint32_t encode_stochastic(const ElementFormat& f, float x, uint32_t random, const float* codebook = nullptr);

struct StochasticRoundArgs {
  Matrix x;
  const ElementFormat* format = nullptr;  // nullptr: to the dtype of `out` (bf16, f16)
  Philox random;
  Matrix out;  // the rounded values
};

struct WeightUpdateArgs {
  QMatrix w;  // canonical codes, written in place
  Matrix dw;  // rows x cols
  Philox random;
  bool rescale = false;  // recompute the float scales (and integer zeros) from W + dW first
};

namespace ref {
Status stochastic_round(const StochasticRoundArgs& args, const Parallel& parallel);
// W <- SR(W + dW) on the codes of w, block by block.
Status stochastic_round_update(const WeightUpdateArgs& args, const Parallel& parallel);
}  // namespace ref
}  // namespace lowbit
