#include "emu/numerics/bound.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "emu/config.h"
#include "emu/numerics/tensor_core.h"

namespace emu {
namespace {

// E <= lost max(M + E, nominal) + rounded (M + E) + tiny
double solve(double lost, double rounded, double tiny, double magnitude, double nominal) {
  if (lost + rounded >= 1.0) return std::numeric_limits<double>::infinity();
  return (lost * std::max(magnitude, nominal) + rounded * magnitude + tiny) / (1.0 - lost - rounded);
}

double nearest(bool half) { return half ? 0x1p-11 : 0x1p-24; }
double least(bool half) { return half ? 0x1p-24 : 0x1p-149; }

}  // namespace

double exact_error_bound(const ChainOfMma& chain) {
  return solve(0.0, chain.steps * nearest(chain.half), chain.steps * least(chain.half), chain.magnitude, 0.0);
}

double aligned_error_bound(const ChainOfMma& chain, const TensorCore& core) {
  const int most = core.through_half ? chain.k / 2 : std::min(core.terms, chain.k);
  const int blocks = (chain.k + most - 1) / most * chain.steps;
  const double lost = blocks * (most / core.group + 1.0) * std::ldexp(1.0, -core.fraction);
  double rounded = blocks * (chain.half ? 0x1p-11 : std::ldexp(1.0, -core.result_fraction));
  if (core.through_half) rounded += chain.steps * nearest(chain.half);
  const double tiny = std::ldexp(least(chain.half), 23 - core.result_fraction) * (blocks + chain.steps);
  const double floor = std::ldexp(1.0, chain.half ? core.least_f16 : core.least_f32);
  return solve(lost, rounded, tiny, chain.magnitude, std::max(chain.nominal, floor));
}

}  // namespace emu

double emu_mma_error_bound(const char* arch, const char* operand, const char* model, int half, int k, int steps,
                           double magnitude, double nominal) {
  const emu::ChainOfMma chain{k, steps, half != 0, magnitude, nominal};
  if (std::strcmp(model, "exact") == 0) return emu::exact_error_bound(chain);
  if (std::strcmp(model, "hardware") != 0) return -1.0;
  for (int row = 0; row < emu::kTensorCoreCount; ++row) {
    const emu::MmaOperand candidate = emu::kTensorCores[row].operand;
    if (std::strcmp(emu::name_of(candidate), operand) == 0) {
      return emu::aligned_error_bound(chain, emu::tensor_core(emu::arch_number(arch), candidate));
    }
  }
  return -1.0;
}
