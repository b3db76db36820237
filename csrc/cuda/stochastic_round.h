// stochastic_round and the weight update on CUDA (ref/stochastic_round.h): the bits of the CPU for the same seed and
// offset. Findings: kNonFinite for a NaN in x where the format has none (its element becomes the value of code 0), and
// for a dw that is not finite (its element keeps its code: the update cannot be refused as a whole without a wait).
#pragma once

#include "cuda/launch.h"
#include "ref/stochastic_round.h"

namespace lowbit::cuda {

Status stochastic_round(const StochasticRoundArgs& args, const Call& call);

// With `rescale` the new scales (and zero points) are computed into the stores of args.scaling by a pass of its own
// over w and dw, since every code of a block depends on them.
int64_t stochastic_round_update_workspace(const WeightUpdateArgs& args);
Status stochastic_round_update(const WeightUpdateArgs& args, const Call& call);

}  // namespace lowbit::cuda
