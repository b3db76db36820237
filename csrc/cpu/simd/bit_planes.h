// Bit planes in the vectors of the instruction set that a file is compiled for.
//
//   in_order          32 columns in the order of a lane
//   bits_of           bit i of 64 bytes
//   UnitDecoder       planes[plane] of eight quads of a tile16 tile at p
//   meeting           the columns that count
//   add_count         sum + (what is set in each lane) * weight
#pragma once

#if defined(__AVX512F__)
#include "cpu/avx512/bit_planes.h"
#else
#include "cpu/avx2/bit_planes.h"
#endif
