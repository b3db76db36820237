#include "ref/stochastic_round.h"

namespace lowbit::ref {

Status stochastic_round(const StochasticRoundArgs&, const Parallel&) {
  return unsupported("stochastic_round: not built");
}
Status stochastic_round_update(const WeightUpdateArgs&, const Parallel&) {
  return unsupported("stochastic_round: not built");
}

}  // namespace lowbit::ref
