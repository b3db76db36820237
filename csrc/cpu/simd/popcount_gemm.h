// The engines of bit planes. AMX takes those of AVX-512.
#pragma once

#include "cpu/gemm_driver.h"

#ifdef __AMX_INT8__
namespace lowbit::avx512 {
const cpu::Engine* popcount_engine(const cpu::PlaneProduct& product);
}
namespace lowbit::LOWBIT_ISA_NAMESPACE {
using avx512::popcount_engine;
}
#else
namespace lowbit::LOWBIT_ISA_NAMESPACE {
const cpu::Engine* popcount_engine(const cpu::PlaneProduct& product);
}
#endif
