// The entries of the kernel table that this folder has.
#pragma once

#include "cpu/dispatch.h"

namespace lowbit::avx512 {

void override_kernels(cpu::Kernels* table);

}  // namespace lowbit::avx512
