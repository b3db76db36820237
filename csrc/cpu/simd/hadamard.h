// The Walsh-Hadamard transform of ref/hadamard.h in vectors.
#pragma once

#include "ref/hadamard.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {

Status hadamard(const HadamardArgs& args, const Parallel& parallel);

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
