// The values of the codes in a vector of bytes. with_lookup(values, bits, f) calls f(lookup) for the values of all
// codes of a format; lookup(codes, v) gives four vectors of floats.
#pragma once

#if defined(__AVX512F__)
#include "cpu/avx512/lookup.h"
#else
#include "cpu/avx2/lookup.h"
#endif
