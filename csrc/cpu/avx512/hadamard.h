// The Walsh-Hadamard transform of ref/hadamard.h in AVX-512.
#pragma once

#include "ref/hadamard.h"

namespace lowbit::avx512 {

Status hadamard(const HadamardArgs& args, const Parallel& parallel);

}  // namespace lowbit::avx512
