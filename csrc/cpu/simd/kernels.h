// Each instruction set's entries of the kernel table (simd/kernels.cpp, compiled for it).
#pragma once

#include "cpu/dispatch.h"

namespace lowbit {

namespace avx512 {
void override_kernels(cpu::Kernels* table);
}
namespace avxvnni {
void override_kernels(cpu::Kernels* table);
}
namespace avx2 {
void override_kernels(cpu::Kernels* table);
}

}  // namespace lowbit
