// Codes of 2 and 4 bits packed within vectors, in order, and bytes of four vectors as words, for the instruction set
// that a file is compiled for:
//   join_codes<bits>(v)       8 / bits vectors of one code a byte -> one of packed codes, the first at the low end
//   split_codes<bits>(v, to)  the inverse
//   interleave_bytes(y, w)    byte k of every word from y[k]; words 4 m .. 4 m + 3 of 16 in every 128-bit part of w[m]
//   separate_bytes(w, y)      the inverse
#pragma once

#if defined(__AVX512F__)
#include "cpu/avx512/join_codes.h"
#else
#include "cpu/avx2/join_codes.h"
#endif
