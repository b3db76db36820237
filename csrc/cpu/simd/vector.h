// The vectors of the instruction set that a file is compiled for. The sources of this folder are compiled once an
// instruction set, in its namespace, over these names:
//
//   kLanes, kBytes           numbers of 32 bits in a vector, bytes in it
//   Floats, Ints, Halves     kLanes floats, 32-bit integers, 16-bit numbers (Halves); Ints also holds kBytes bytes
//   Mask                     a choice of lanes
//
// Operations are free functions of the field's usual names. A count of lanes may be any integer: what lies past it is
// zero when loaded and untouched when stored.
#pragma once

#define LOWBIT_INLINE inline __attribute__((always_inline))
#define LOWBIT_UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)
#include "cpu/avx512/vector.h"
#else
#include "cpu/avx2/vector.h"
#endif

#define LOWBIT_ISA_STRING_(name) #name
#define LOWBIT_ISA_STRING(name) LOWBIT_ISA_STRING_(name)
// "<op>:<isa>", what cpu::ran is told
#define LOWBIT_KERNEL(op) op ":" LOWBIT_ISA_STRING(LOWBIT_ISA_NAMESPACE)
