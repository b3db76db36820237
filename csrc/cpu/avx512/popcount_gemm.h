// The engines of bit planes.
#pragma once

#include "cpu/gemm_driver.h"

namespace lowbit::avx512 {

const cpu::Engine* popcount_engine(const cpu::PlaneProduct& product);

}  // namespace lowbit::avx512
