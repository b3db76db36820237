// Each instruction set's entries of the kernel table (simd/kernels.cpp, compiled for it).
#pragma once

#include "cpu/dispatch.h"

namespace lowbit {

namespace amx {
bool usable();  // this processor has tiles, and the operating system lets this process use them
void override_kernels(cpu::Kernels* table);
}  // namespace amx
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
