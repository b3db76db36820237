// quantize, dequantize and stochastic rounding in vectors: the contracts of ref/, the same bits.
#pragma once

#include "ref/quantize.h"
#include "ref/stochastic_round.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

Status quantize(const QuantizeArgs& args, const Parallel& parallel);
Status dequantize(const DequantizeArgs& args, const Parallel& parallel);
Status stochastic_round(const StochasticRoundArgs& args, const Parallel& parallel);
Status stochastic_round_update(const WeightUpdateArgs& args, const Parallel& parallel);

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
