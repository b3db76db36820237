#include "cpu/avx512/kernels.h"

namespace lowbit::avx512 {

void override_kernels(cpu::Kernels*) {}

}  // namespace lowbit::avx512
